"""Models of other libraries by name, with example inputs: Hugging Face, timm, torchvision."""
