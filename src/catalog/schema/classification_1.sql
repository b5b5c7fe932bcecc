-- classification.db, version 1: rules that a user may edit. Rows are written once, when the file is made, and never
-- again: what is in here afterwards is the user's. Sizes are in bytes.

PRAGMA application_id = 0x6D667363; -- 'mfsc'

CREATE TABLE schema_version (
    version     INTEGER PRIMARY KEY,
    applied_at  TEXT NOT NULL
) STRICT;
INSERT INTO schema_version (version, applied_at) VALUES (1, datetime('now'));

-- The words of `models.primary_type`.
CREATE TABLE model_types (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    description  TEXT NOT NULL,
    enabled      INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1))
) STRICT;

INSERT INTO model_types (name, description) VALUES
    ('unknown', 'not recognised, or not with enough confidence'),
    ('checkpoint', 'a whole image or video generator in one file: network, text encoder and VAE'),
    ('diffusion_model', 'the denoising network alone (UNet or transformer)'),
    ('text_encoder', 'turns a prompt into conditioning: CLIP, T5, a language model'),
    ('clip_vision', 'image encoder of CLIP or SigLIP'),
    ('vae', 'turns latents into pictures and back'),
    ('vae_approx', 'small decoder for previews'),
    ('lora', 'low-rank addition to a model'),
    ('lycoris', 'LoHa, LoKr and other additions beyond plain LoRA'),
    ('controlnet', 'guides generation by a picture'),
    ('t2i_adapter', 'light picture guidance'),
    ('ip_adapter', 'uses a picture as prompt'),
    ('style_model', 'turns the look of a picture into conditioning'),
    ('embedding', 'textual inversion'),
    ('hypernetwork', 'small network beside attention layers'),
    ('upscaler', 'enlarges pictures'),
    ('latent_upscaler', 'enlarges latents'),
    ('face_restore', 'repairs faces'),
    ('face_swap', 'exchanges faces'),
    ('motion_module', 'adds motion to an image model'),
    ('motion_lora', 'camera motion for a motion module'),
    ('detection', 'finds boxes in pictures'),
    ('segmentation', 'finds outlines in pictures'),
    ('gligen', 'places objects by boxes'),
    ('photomaker', 'identity from photographs'),
    ('instantid', 'identity from one face'),
    ('pulid', 'identity from one face, without tuning'),
    ('model_patch', 'changes a model while it runs'),
    ('audio_encoder', 'turns sound into conditioning'),
    ('classifier', 'names what is in a picture'),
    ('preprocessor', 'makes guidance pictures'),
    ('caption', 'describes pictures'),
    ('diffusers', 'a model in the folder layout of diffusers'),
    ('config', 'settings without weights'),
    ('background_removal', 'cuts out the subject'),
    ('frame_interpolation', 'makes frames between frames'),
    ('geometry_estimation', 'depth, normals or points from pictures'),
    ('optical_flow', 'motion between frames'),
    ('inpaint', 'fills holes'),
    ('prompt_expansion', 'writes longer prompts'),
    ('safety_checker', 'finds pictures that are not wanted'),
    ('llm', 'language model'),
    ('mmproj', 'gives eyes or ears to a language model'),
    ('llm_lora', 'low-rank addition to a language model'),
    ('sentence_embedding', 'turns sentences into vectors'),
    ('speech', 'speech from text or text from speech');

-- A pattern in a file name that tells a variant of a type.
CREATE TABLE sub_type_rules (
    id            INTEGER PRIMARY KEY,
    primary_type  TEXT NOT NULL REFERENCES model_types (name),
    sub_type      TEXT NOT NULL,
    pattern       TEXT NOT NULL,
    weight        REAL NOT NULL CHECK (weight BETWEEN 0 AND 1),
    UNIQUE (primary_type, sub_type, pattern)
) STRICT;
INSERT INTO sub_type_rules (primary_type, sub_type, pattern, weight) VALUES
    ('checkpoint', 'inpainting', 'inpaint', 0.4),
    ('checkpoint', 'refiner', 'refiner', 0.4),
    ('checkpoint', 'turbo', 'turbo', 0.3),
    ('checkpoint', 'lightning', 'lightning', 0.3),
    ('diffusion_model', 'inpainting', 'fill', 0.2),
    ('diffusion_model', 'image-to-video', 'i2v', 0.4),
    ('diffusion_model', 'text-to-video', 't2v', 0.4),
    ('controlnet', 'canny', 'canny', 0.4),
    ('controlnet', 'depth', 'depth', 0.4),
    ('controlnet', 'openpose', 'openpose', 0.4),
    ('controlnet', 'tile', 'tile', 0.3),
    ('controlnet', 'union', 'union', 0.4),
    ('lora', 'lcm', 'lcm', 0.3),
    ('lora', 'hyper', 'hyper', 0.2);

-- Bands in which the sizes of a type and base lie: weak evidence for it, strong evidence against the impossible.
CREATE TABLE size_rules (
    id            INTEGER PRIMARY KEY,
    primary_type  TEXT NOT NULL REFERENCES model_types (name),
    base          TEXT,
    min_size      INTEGER NOT NULL CHECK (min_size >= 0),
    max_size      INTEGER NOT NULL,
    weight        REAL NOT NULL CHECK (weight BETWEEN 0 AND 0.3),
    CHECK (min_size <= max_size)
) STRICT;
INSERT INTO size_rules (primary_type, base, min_size, max_size, weight) VALUES
    ('checkpoint', 'sd1', 1990000000, 2140000000, 0.3),
    ('checkpoint', 'sd1', 4240000000, 4290000000, 0.3),
    ('checkpoint', 'sd1', 5570000000, 7700000000, 0.1),
    ('checkpoint', 'sd2', 2560000000, 2600000000, 0.2),
    ('checkpoint', 'sd2', 5190000000, 5230000000, 0.2),
    ('checkpoint', 'sdxl', 3290000000, 3500000000, 0.2),
    ('checkpoint', 'sdxl', 6460000000, 7220000000, 0.3),
    ('checkpoint', 'sdxl', 13700000000, 14000000000, 0.2),
    ('checkpoint', 'sd3', 4320000000, 4350000000, 0.2),
    ('checkpoint', 'sd3', 5950000000, 5990000000, 0.2),
    ('checkpoint', 'sd3', 10850000000, 10890000000, 0.2),
    ('checkpoint', 'sd3', 15740000000, 15780000000, 0.2),
    ('checkpoint', 'flux1', 17000000000, 17400000000, 0.2),
    ('checkpoint', 'ltxv', 4460000000, 28600000000, 0.1),
    ('diffusion_model', 'sd1', 1700000000, 1740000000, 0.2),
    ('diffusion_model', 'sdxl', 5115000000, 5155000000, 0.2),
    ('diffusion_model', 'flux1', 4000000000, 12700000000, 0.1),
    ('diffusion_model', 'flux1', 23700000000, 23900000000, 0.3),
    ('diffusion_model', 'qwen-image', 40500000000, 41300000000, 0.2),
    ('diffusion_model', 'qwen-image', 20200000000, 20600000000, 0.2),
    ('diffusion_model', 'z-image', 12200000000, 12400000000, 0.2),
    ('diffusion_model', 'hunyuan-video', 25400000000, 25800000000, 0.2),
    ('lora', 'sd1', 3000000, 270000000, 0.1),
    ('lora', 'sdxl', 10000000, 900000000, 0.1),
    ('lora', 'flux1', 18000000, 1730000000, 0.1),
    ('controlnet', 'sd1', 715000000, 1450000000, 0.2),
    ('controlnet', 'sdxl', 770000000, 5000000000, 0.1),
    ('controlnet', 'flux1', 1490000000, 6600000000, 0.1),
    ('t2i_adapter', 'sd1', 75000000, 310000000, 0.1),
    ('t2i_adapter', 'sdxl', 158000000, 316000000, 0.1),
    ('ip_adapter', 'sd1', 44000000, 157000000, 0.1),
    ('ip_adapter', 'sdxl', 698000000, 1490000000, 0.1),
    ('vae', NULL, 163000000, 170000000, 0.3),
    ('vae', NULL, 331000000, 339000000, 0.3),
    ('vae_approx', NULL, 200000, 30000000, 0.1),
    ('text_encoder', NULL, 245000000, 493000000, 0.1),
    ('text_encoder', NULL, 4880000000, 9800000000, 0.1),
    ('clip_vision', NULL, 1260000000, 2530000000, 0.1),
    ('upscaler', NULL, 600000, 180000000, 0.1),
    ('motion_module', 'sd1', 1670000000, 1830000000, 0.2),
    ('embedding', NULL, 4000, 300000, 0.2),
    ('hypernetwork', NULL, 5000000, 450000000, 0.1),
    ('face_restore', NULL, 290000000, 377000000, 0.1),
    ('gligen', NULL, 410000000, 426000000, 0.2);

-- Parts of tensor names that tell an architecture; more and finer rules are built in.
CREATE TABLE architecture_patterns (
    id            INTEGER PRIMARY KEY,
    architecture  TEXT NOT NULL,
    pattern       TEXT NOT NULL,
    primary_type  TEXT NOT NULL REFERENCES model_types (name),
    weight        REAL NOT NULL CHECK (weight BETWEEN 0 AND 1),
    UNIQUE (architecture, pattern)
) STRICT;
INSERT INTO architecture_patterns (architecture, pattern, primary_type, weight) VALUES
    ('latent-diffusion', 'model.diffusion_model.input_blocks.', 'checkpoint', 0.9),
    ('flux', 'double_blocks.0.img_attn.qkv.weight', 'diffusion_model', 0.9),
    ('mmdit', 'joint_blocks.0.context_block.attn.qkv.weight', 'diffusion_model', 0.9),
    ('wan', 'blocks.0.cross_attn.norm_k.weight', 'diffusion_model', 0.6),
    ('kl-autoencoder', 'decoder.up.0.block.0.conv1.weight', 'vae', 0.8),
    ('clip-text', 'text_model.encoder.layers.0.self_attn.q_proj.weight', 'text_encoder', 0.7),
    ('t5', 'encoder.block.0.layer.0.SelfAttention.q.weight', 'text_encoder', 0.9),
    ('clip-vision', 'vision_model.encoder.layers.0.self_attn.q_proj.weight', 'clip_vision', 0.8),
    ('lora', '.lora_down.weight', 'lora', 0.8),
    ('lora', '.lora_A.weight', 'lora', 0.8),
    ('lycoris', '.hada_w1_a', 'lycoris', 0.9),
    ('lycoris', '.lokr_w1', 'lycoris', 0.9),
    ('controlnet', 'control_model.zero_convs.0.0.weight', 'controlnet', 0.9),
    ('rrdbnet', 'body.0.rdb1.conv1.weight', 'upscaler', 0.9);

-- Where facts about models can be asked for. A limit is requests in a window of seconds, for callers without a token;
-- without one the service publishes no figure.
CREATE TABLE external_apis (
    id                   INTEGER PRIMARY KEY,
    name                 TEXT NOT NULL UNIQUE,
    base_url             TEXT NOT NULL,
    enabled              INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    rate_limit           INTEGER,
    rate_window_seconds  INTEGER,
    CHECK ((rate_limit IS NULL) = (rate_window_seconds IS NULL))
) STRICT;
INSERT INTO external_apis (name, base_url, rate_limit, rate_window_seconds) VALUES
    ('huggingface', 'https://huggingface.co', 500, 300),
    ('civitai', 'https://civitai.com', NULL, NULL),
    ('modelscope', 'https://modelscope.cn', NULL, NULL);
