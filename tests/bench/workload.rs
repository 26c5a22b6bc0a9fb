//! The steps that are measured: their sizes, as the yardstick's options and as settings of ours.

/// A training step of some size.
pub struct Workload {
    /// A short name.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// Width, depth and heads of the encoder.
    pub encoder: [usize; 3],
    /// Width and depth of the predictor; it has the encoder's heads.
    pub predictor: [usize; 2],
    /// Frames of a clip.
    pub frames: usize,
    /// Height and width of a frame in pixels.
    pub size: usize,
    /// Height and width of a patch in pixels.
    pub patch: usize,
    /// Clips of a step, all in one group of masks.
    pub batch: usize,
    /// Measured with a limit of memory as well.
    pub thrifty: bool,
    /// Too large to repeat: run once, in bf16, without the yardstick.
    pub alone: bool,
}

/// A step for the caches.
pub const SMALL: Workload = Workload {
    name: "small",
    title: "small step: width 192, depth 12, predictor 96 x 4, 8 clips of 16 frames of 64 px, patch 8",
    encoder: [192, 12, 3],
    predictor: [96, 4],
    frames: 16,
    size: 64,
    patch: 8,
    batch: 8,
    thrifty: false,
    alone: false,
};

/// A step as it is trained.
pub const VIT_S: Workload = Workload {
    name: "vit-s",
    title: "ViT-S/16 step: width 384, depth 12, predictor 384 x 12, 2 clips of 16 frames of 224 px",
    encoder: [384, 12, 6],
    predictor: [384, 12],
    frames: 16,
    size: 224,
    patch: 16,
    batch: 2,
    thrifty: true,
    alone: false,
};

/// A step that has to fit.
pub const VIT_L: Workload = Workload {
    name: "vit-l",
    title: "ViT-L/16 step: width 1024, depth 24, predictor 384 x 12, one clip of 16 frames of 224 px",
    encoder: [1024, 24, 16],
    predictor: [384, 12],
    frames: 16,
    size: 224,
    patch: 16,
    batch: 1,
    thrifty: false,
    alone: true,
};

/// All of them, in the order they run.
pub const ALL: [&Workload; 3] = [&SMALL, &VIT_S, &VIT_L];

impl Workload {
    /// Options of the yardstick's `bench`.
    pub fn options(&self) -> Vec<String> {
        let [dim, depth, heads] = self.encoder;
        let [pred_dim, pred_depth] = self.predictor;
        let named = [
            ("dim", dim),
            ("depth", depth),
            ("heads", heads),
            ("pred_dim", pred_dim),
            ("pred_depth", pred_depth),
            ("frames", self.frames),
            ("size", self.size),
            ("patch", self.patch),
            ("batch", self.batch),
        ];
        named.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]).collect()
    }

    /// What makes `models/vjepa-vitl16.vjepa` the same model.
    pub fn settings(&self, precision: &str) -> Vec<String> {
        let [dim, depth, heads] = self.encoder;
        let [pred_dim, pred_depth] = self.predictor;
        let set = [
            format!("clip.frames={}", self.frames),
            format!("clip.size={} px", self.size),
            format!("encoder.patch={} px", self.patch),
            format!("encoder.dim={dim}"),
            format!("encoder.depth={depth}"),
            format!("encoder.heads={heads}"),
            format!("predictor.dim={pred_dim}"),
            format!("predictor.depth={pred_depth}"),
            format!("train.batch={}", self.batch),
            format!("train.group={}", self.batch),
            format!("train.precision=\"{precision}\""),
        ];
        set.into_iter().flat_map(|setting| ["--set".to_string(), setting]).collect()
    }
}
