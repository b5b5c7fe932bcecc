//! UNets by the numbers that tell them apart, in the original layout and in that of diffusers.

use super::super::samples::tensors::Tensor;

/// What section 4 of any loader measures.
pub struct Unet {
    pub name: &'static str,
    pub base: &'static str,
    pub channels: u64,
    pub inputs: u64,
    pub context: u64,
    /// Length of the vector added to the time, when there is one.
    pub added: Option<u64>,
    pub linear: bool,
    /// Transformer blocks of each residual block of the way down.
    pub depths: &'static [u64],
    /// Of the middle block.
    pub middle: u64,
    /// Widths of the levels, in multiples of `channels`.
    pub widths: &'static [u64],
    pub per_level: usize,
    pub encoder: Encoder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    ClipL,
    OpenClip,
    Both,
    OnlyBig,
    Image,
}

const SD: &[u64] = &[1, 1, 1, 1, 1, 1, 0, 0];
const SD_WIDTHS: &[u64] = &[1, 2, 4, 4];
const XL_WIDTHS: &[u64] = &[1, 2, 4];

pub const UNETS: &[Unet] = &[
    sd("sd1", "sd1", 4, 768, None, false, Encoder::ClipL),
    sd("sd1-inpainting", "sd1", 9, 768, None, false, Encoder::ClipL),
    sd("sd1-edit", "sd1", 8, 768, None, false, Encoder::ClipL),
    sd("sd2", "sd2", 4, 1024, None, true, Encoder::OpenClip),
    sd("sd2-inpainting", "sd2", 9, 1024, None, true, Encoder::OpenClip),
    sd("sd2-depth", "sd2", 5, 1024, None, true, Encoder::OpenClip),
    sd("sd2-unclip", "sd2", 4, 1024, Some(1536), true, Encoder::OpenClip),
    xl("sdxl", "sdxl", 4, 2816, &[0, 0, 2, 2, 10, 10], 10),
    xl("sdxl-inpainting", "sdxl", 9, 2816, &[0, 0, 2, 2, 10, 10], 10),
    xl("sdxl-edit", "sdxl", 8, 2816, &[0, 0, 2, 2, 10, 10], 10),
    xl("ssd-1b", "sdxl", 4, 2816, &[0, 0, 2, 2, 4, 4], 0),
    xl("vega", "sdxl", 4, 2816, &[0, 0, 1, 1, 2, 2], 0),
    xl("kolors", "kolors", 4, 5632, &[0, 0, 2, 2, 10, 10], 10),
    Unet {
        name: "sdxl-refiner",
        base: "sdxl",
        channels: 384,
        inputs: 4,
        context: 1280,
        added: Some(2560),
        linear: true,
        depths: &[0, 0, 4, 4, 4, 4, 0, 0],
        middle: 4,
        widths: SD_WIDTHS,
        per_level: 2,
        encoder: Encoder::OnlyBig,
    },
    Unet {
        name: "koala",
        base: "sdxl",
        channels: 320,
        inputs: 4,
        context: 2048,
        added: Some(2816),
        linear: true,
        depths: &[0, 2, 6],
        middle: 6,
        widths: XL_WIDTHS,
        per_level: 1,
        encoder: Encoder::Both,
    },
    Unet {
        name: "x4-upscaler",
        base: "sd2",
        channels: 256,
        inputs: 7,
        context: 1024,
        added: None,
        linear: true,
        depths: &[0, 0, 1, 1, 1, 1, 1, 1],
        middle: 1,
        widths: &[1, 2, 2, 4],
        per_level: 2,
        encoder: Encoder::OpenClip,
    },
];

const fn sd(
    name: &'static str,
    base: &'static str,
    inputs: u64,
    context: u64,
    added: Option<u64>,
    linear: bool,
    encoder: Encoder,
) -> Unet {
    Unet {
        name,
        base,
        channels: 320,
        inputs,
        context,
        added,
        linear,
        depths: SD,
        middle: 1,
        widths: SD_WIDTHS,
        per_level: 2,
        encoder,
    }
}

const fn xl(
    name: &'static str,
    base: &'static str,
    inputs: u64,
    added: u64,
    depths: &'static [u64],
    middle: u64,
) -> Unet {
    Unet {
        name,
        base,
        channels: 320,
        inputs,
        context: 2048,
        added: Some(added),
        linear: true,
        depths,
        middle,
        widths: XL_WIDTHS,
        per_level: 2,
        encoder: Encoder::Both,
    }
}

/// Names and shapes, one after another.
#[derive(Default)]
pub struct Names(pub Vec<Tensor>);

impl Names {
    fn add(&mut self, name: String, shape: &[u64]) {
        self.0.push(Tensor { name, dtype: "F16".to_owned(), shape: shape.to_vec() });
    }

    fn transformer(&mut self, unet: &Unet, at: &str, width: u64, depth: u64) {
        let proj: &[u64] = if unet.linear { &[width, width] } else { &[width, width, 1, 1] };
        self.add(format!("{at}.norm.weight"), &[width]);
        self.add(format!("{at}.proj_in.weight"), proj);
        self.add(format!("{at}.proj_out.weight"), proj);
        for block in 0..depth {
            let at = format!("{at}.transformer_blocks.{block}");
            for (attention, read) in [("attn1", width), ("attn2", unet.context)] {
                self.add(format!("{at}.{attention}.to_q.weight"), &[width, width]);
                self.add(format!("{at}.{attention}.to_k.weight"), &[width, read]);
                self.add(format!("{at}.{attention}.to_v.weight"), &[width, read]);
                self.add(format!("{at}.{attention}.to_out.0.weight"), &[width, width]);
            }
            self.add(format!("{at}.ff.net.0.proj.weight"), &[8 * width, width]);
            self.add(format!("{at}.norm1.weight"), &[width]);
        }
    }

    fn original_block(&mut self, at: &str, read: u64, width: u64) {
        self.add(format!("{at}.in_layers.0.weight"), &[read]);
        self.add(format!("{at}.in_layers.2.weight"), &[width, read, 3, 3]);
        self.add(format!("{at}.out_layers.3.weight"), &[width, width, 3, 3]);
        if read != width {
            self.add(format!("{at}.skip_connection.weight"), &[width, read, 1, 1]);
        }
    }

    fn diffusers_block(&mut self, at: &str, read: u64, width: u64) {
        self.add(format!("{at}.norm1.weight"), &[read]);
        self.add(format!("{at}.conv1.weight"), &[width, read, 3, 3]);
        self.add(format!("{at}.conv2.weight"), &[width, width, 3, 3]);
    }
}

impl Unet {
    fn width(&self, level: usize) -> u64 {
        self.channels * self.widths[level]
    }

    fn depth(&self, level: usize, block: usize) -> u64 {
        self.depths[level * self.per_level + block.min(self.per_level - 1)]
    }

    /// Under the names of the first publications, without a prefix.
    pub fn original(&self) -> Vec<Tensor> {
        let mut names = Names::default();
        let last = self.widths.len() - 1;
        names.add("time_embed.0.weight".to_owned(), &[4 * self.channels, self.channels]);
        if let Some(added) = self.added {
            names.add("label_emb.0.0.weight".to_owned(), &[4 * self.channels, added]);
        }
        if self.name == "x4-upscaler" {
            names.add("label_emb.weight".to_owned(), &[1000, 1024]);
        }
        if self.base == "kolors" {
            names.add("encoder_hid_proj.weight".to_owned(), &[2048, 4096]);
        }
        names.add("input_blocks.0.0.weight".to_owned(), &[self.channels, self.inputs, 3, 3]);
        let (mut number, mut read) = (1, self.channels);
        for level in 0..=last {
            for block in 0..self.per_level {
                names.original_block(&format!("input_blocks.{number}.0"), read, self.width(level));
                read = self.width(level);
                if self.depth(level, block) > 0 {
                    names.transformer(self, &format!("input_blocks.{number}.1"), read, self.depth(level, block));
                }
                number += 1;
            }
            if level < last {
                names.add(format!("input_blocks.{number}.0.op.weight"), &[read, read, 3, 3]);
                number += 1;
            }
        }
        names.original_block("middle_block.0", read, read);
        if self.middle > 0 {
            names.transformer(self, "middle_block.1", read, self.middle);
        }
        number = 0;
        for level in (0..=last).rev() {
            for block in 0..=self.per_level {
                names.original_block(&format!("output_blocks.{number}.0"), 2 * read, self.width(level));
                read = self.width(level);
                let depth = self.depth(level, block);
                if depth > 0 {
                    names.transformer(self, &format!("output_blocks.{number}.1"), read, depth);
                }
                if block == self.per_level && level > 0 {
                    let part = if depth > 0 { 2 } else { 1 };
                    names.add(format!("output_blocks.{number}.{part}.conv.weight"), &[read, read, 3, 3]);
                }
                number += 1;
            }
        }
        names.add("out.0.weight".to_owned(), &[self.channels]);
        names.add("out.2.weight".to_owned(), &[4, self.channels, 3, 3]);
        names.0
    }

    pub fn diffusers(&self) -> Vec<Tensor> {
        let mut names = Names::default();
        let last = self.widths.len() - 1;
        names.add("time_embedding.linear_1.weight".to_owned(), &[4 * self.channels, self.channels]);
        if let Some(added) = self.added.filter(|_| self.base != "sd2") {
            names.add("add_embedding.linear_1.weight".to_owned(), &[4 * self.channels, added]);
        }
        if self.base == "kolors" {
            names.add("encoder_hid_proj.weight".to_owned(), &[2048, 4096]);
        }
        names.add("conv_in.weight".to_owned(), &[self.channels, self.inputs, 3, 3]);
        let mut read = self.channels;
        for level in 0..=last {
            let at = format!("down_blocks.{level}");
            for block in 0..self.per_level {
                names.diffusers_block(&format!("{at}.resnets.{block}"), read, self.width(level));
                read = self.width(level);
                if self.depth(level, block) > 0 {
                    names.transformer(self, &format!("{at}.attentions.{block}"), read, self.depth(level, block));
                }
            }
            if level < last {
                names.add(format!("{at}.downsamplers.0.conv.weight"), &[read, read, 3, 3]);
            }
        }
        names.diffusers_block("mid_block.resnets.0", read, read);
        if self.middle > 0 {
            names.transformer(self, "mid_block.attentions.0", read, self.middle);
        }
        for level in (0..=last).rev() {
            let at = format!("up_blocks.{}", last - level);
            for block in 0..=self.per_level {
                names.diffusers_block(&format!("{at}.resnets.{block}"), 2 * read, self.width(level));
                read = self.width(level);
                if self.depth(level, block) > 0 {
                    names.transformer(self, &format!("{at}.attentions.{block}"), read, self.depth(level, block));
                }
            }
        }
        names.add("conv_out.weight".to_owned(), &[4, self.channels, 3, 3]);
        names.0
    }
}

impl Encoder {
    /// What lies beside the UNet in a checkpoint.
    pub fn tensors(self) -> &'static str {
        match self {
            Self::ClipL => {
                "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight [77,768]
                 cond_stage_model.transformer.text_model.encoder.layers.{0..12}.mlp.fc1.weight [3072,768]
                 cond_stage_model.transformer.text_model.encoder.layers.{0..12}.layer_norm1.weight [768]"
            }
            Self::OpenClip => {
                "cond_stage_model.model.positional_embedding [77,1024]
                 cond_stage_model.model.transformer.resblocks.{0..24}.mlp.c_fc.weight [4096,1024]
                 cond_stage_model.model.ln_final.weight [1024]"
            }
            Self::Both => {
                "conditioner.embedders.0.transformer.text_model.encoder.layers.{0..12}.mlp.fc1.weight [3072,768]
                 conditioner.embedders.0.transformer.text_model.final_layer_norm.weight [768]
                 conditioner.embedders.1.model.transformer.resblocks.{0..32}.mlp.c_fc.weight [5120,1280]
                 conditioner.embedders.1.model.text_projection [1280,1280]"
            }
            Self::OnlyBig => {
                "conditioner.embedders.0.model.transformer.resblocks.{0..32}.mlp.c_fc.weight [5120,1280]
                 conditioner.embedders.0.model.text_projection [1280,1280]"
            }
            Self::Image => {
                "conditioner.embedders.0.open_clip.model.visual.class_embedding [1280]
                 conditioner.embedders.0.open_clip.model.visual.transformer.resblocks.{0..32}.ln_1.weight [1280]"
            }
        }
    }
}
