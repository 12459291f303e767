# timm's options that the other teachers lack: pooling, a norm in front, no qkv bias, two heads; depth 7, 3 heads.
# torchvision, which timm imports and this does not need, is stood in for. Run: python make_timm_teachers.py OUT
import sys, json, os, importlib.abc, importlib.machinery
from unittest.mock import MagicMock
class F(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split('.')[0]=='torchvision': return importlib.machinery.ModuleSpec(name,self,is_package=True)
    def create_module(self, spec):
        m=MagicMock(); m.__spec__=spec; m.__path__=[]; m.__name__=spec.name; return m
    def exec_module(self,m): pass
import torch
sys.meta_path.insert(0,F())
from timm.models.vision_transformer import VisionTransformer
from timm.models.deit import VisionTransformerDistilled
from safetensors.torch import save_file
torch.manual_seed(3)
out=sys.argv[1]
base=dict(img_size=32,patch_size=8,embed_dim=48,depth=7,num_heads=3,num_classes=5)
cases={
 'timm-avg':dict(global_pool='avg'),
 'timm-noqkvbias':dict(qkv_bias=False,init_values=0.3),
 'timm-prenorm':dict(pre_norm=True,act_layer='quick_gelu'),
 'timm-map':dict(class_token=False,global_pool='map'),

 'timm-distilled':dict(),
}
for n,a in cases.items():
    cls=VisionTransformerDistilled if n=='timm-distilled' else VisionTransformer
    m=cls(**base,**a)
    for k,p in m.named_parameters():
        with torch.no_grad():
            if p.ndim>=2: p.normal_(0,0.6/p.shape[-1]**0.5 if p.shape[-1]>8 else 0.1)
            elif 'norm' in k and k.endswith('weight'): p.normal_(1,0.2)
            elif 'gamma' in k: p.normal_(0.7,0.3)
            else: p.normal_(0,0.2)
    m.eval(); d=f'{out}/more-{n}'; os.makedirs(d,exist_ok=True)
    x=torch.randn(2,3,32,32)
    seen={}
    m.blocks[0].register_forward_pre_hook(lambda _,a: seen.__setitem__('blocks.0',a[0].clone()))
    for i,b in enumerate(m.blocks): b.register_forward_hook(lambda _,a,o,i=i: seen.__setitem__(f'blocks.{i+1}',o.clone()))
    with torch.no_grad(): lg=m(x); f=m.forward_features(x)
    save_file({k:v.contiguous() for k,v in m.state_dict().items()},d+'/model.safetensors')
    save_file({**{k:v.contiguous() for k,v in seen.items()},'input':x,'normed':f.contiguous(),'logits':lg.contiguous()},d+'/expected.safetensors')
    json.dump({'architecture':'deit_tiny_distilled_patch16_224' if n=='timm-distilled' else 'vit_tiny_test','num_classes':5,'num_features':48,'model_args':{**base,**a},'pretrained_cfg':{'input_size':[3,32,32],'interpolation':'bicubic','mean':[.5]*3,'std':[.5]*3,'crop_pct':.9}},open(d+'/config.json','w'))
