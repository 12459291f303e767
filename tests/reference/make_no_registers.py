# teachers/more-hf-dinov3-no-registers: a DINOv3 without registers, whose table of registers is there without rows.
# Run: python make_no_registers.py teachers
import os, sys
import torch
from safetensors.torch import save_file
from transformers import DINOv3ViTConfig, DINOv3ViTModel

torch.manual_seed(12)
config = DINOv3ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=8, num_register_tokens=0)
model = DINOv3ViTModel(config).eval()
with torch.no_grad():
    for p in model.parameters():
        p.normal_(0, 0.3)
folder = os.path.join(sys.argv[1], "more-hf-dinov3-no-registers")
model.save_pretrained(folder)
x = torch.randn(2, 3, 32, 32)
with torch.no_grad():
    o = model(x, output_hidden_states=True)
result = {f"hidden_states.{i}": h for i, h in enumerate(o.hidden_states)}
result |= {"last_hidden_state": o.last_hidden_state, "pooler_output": o.pooler_output, "input": x}
save_file({k: v.clone().contiguous() for k, v in result.items()}, os.path.join(folder, "expected.safetensors"))
