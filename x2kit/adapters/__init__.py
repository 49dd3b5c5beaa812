"""A model as other libraries expect it: open_clip, clip_benchmark, mteb. Imports no torch.

x2kit.adapters.open_clip        create_model_and_transforms, get_tokenizer
x2kit.adapters.clip_benchmark   load_x2kit, and its command line with models of x2kit
x2kit.adapters.mteb             load_encoder
"""
