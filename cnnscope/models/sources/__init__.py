"""Libraries of models: torchvision, timm, and the classic architectures."""
