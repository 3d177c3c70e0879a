"""Models by name, with example inputs: of Hugging Face, timm, torchvision and diffusers, and of files and modules."""
