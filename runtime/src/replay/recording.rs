//! Reading a recording: `golden.json`, and the clip, masks and results of its steps.

use std::path::Path;

use serde_json::Value;
use vjepac::ir::graph::{InputSpec, SegmentData, Segments};
use vjepac::program::Program;

use crate::checkpoint::{Stored, read_tensors};
use crate::error::{Error, Result};

/// What `golden.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Steps in order.
    pub steps: Vec<Step>,
}

/// Numbers of one step; what the file does not say is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Step, from 1.
    pub step: u64,
    /// Loss before the update.
    pub loss: f64,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Momentum of the moving average.
    pub ema: Option<f64>,
    /// Norms before clipping: the fields `NETWORK_grad_norm`.
    pub grad_norm: Vec<(String, f64)>,
}

/// What a step's file holds.
#[derive(Clone, Debug)]
pub struct StepTensors {
    /// Inputs of the program.
    pub inputs: Vec<Vec<f32>>,
    /// Index sets.
    pub segments: Segments,
    /// Everything else.
    pub others: Vec<Stored>,
}

/// Reads `golden.json`.
pub fn open(golden: &Path) -> Result<Recording> {
    let path = golden.join("golden.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| Error::io("understand", &path, e))?;
    let missing = |what: &str| Error::failed(format!("`{}` has no {what}", path.display()));
    let steps = json["steps"].as_array().ok_or_else(|| missing("list `steps`"))?;
    let read = |step: &Value| -> Option<Step> {
        let norms = step.as_object()?.iter();
        let norms = norms.filter_map(|(key, v)| Some((key.strip_suffix("_grad_norm")?.to_string(), v.as_f64()?)));
        Some(Step {
            step: step["step"].as_u64()?,
            loss: step["loss"].as_f64()?,
            lr: step["lr"].as_f64(),
            weight_decay: step["weight_decay"].as_f64(),
            ema: step["ema"].as_f64(),
            grad_norm: norms.collect(),
        })
    };
    let steps: Option<Vec<Step>> = steps.iter().map(read).collect();
    Ok(Recording { steps: steps.ok_or_else(|| missing("`step` and `loss` in each of its steps"))? })
}

/// Reads a step's file: `clip` [B, 3, T, H, W], `visible.k` and `masked.k` [B, ..., K] for each mask, and the rest.
pub fn read_step(path: &Path, program: &Program) -> Result<StepTensors> {
    let mut all = read_tensors(path)?;
    let mut take = |key: &str| all.iter().position(|t| t.key == key).map(|i| all.remove(i));
    let wrong = |what: String| Error::failed(format!("`{}`: {what}", path.display()));

    let clip = take("clip").ok_or_else(|| wrong("it has no tensor `clip`".into()))?;
    let (clips, pixels) = frames(program, &clip).map_err(&wrong)?;
    let mut visible = Vec::new();
    for (k, mask) in program.tables.masks.iter().enumerate() {
        let mut rows = |name: &str, extra: &[usize]| {
            let key = format!("{name}.{k}");
            let tensor = take(&key).ok_or_else(|| {
                wrong(format!("it has no tensor `{key}`, and the model {} masks", program.tables.masks.len()))
            })?;
            index_rows(&tensor, clips, extra, mask.tokens).map_err(&wrong)
        };
        visible.push((rows("visible", &mask.context_extra)?, rows("masked", &mask.target_extra)?));
    }
    let sets = program.tables.sets.iter().map(|set| {
        let mut data = SegmentData::default();
        for (context, target) in set.masks.iter().map(|m| &visible[*m]) {
            for ((indices, count), (targets, target_count)) in context.iter().zip(target) {
                data.context.push(indices.clone());
                data.context_count.push(*count);
                data.target.push(targets.clone());
                data.target_count.push(*target_count);
            }
        }
        data
    });
    let segments = Segments { clips, sets: sets.collect() };
    if let Some(left) = all.iter().find(|t| t.key.starts_with("visible.") || t.key.starts_with("masked.")) {
        return Err(wrong(format!("`{}` belongs to no mask: the model has {}", left.key, program.tables.masks.len())));
    }
    Ok(StepTensors { inputs: vec![pixels], segments, others: all })
}

/// Clips in the order of the program's only input: [B, 3, T, H, W] to [B, T, H, W, 3].
fn frames(program: &Program, clip: &Stored) -> std::result::Result<(usize, Vec<f32>), String> {
    let spec = match program.tables.inputs.as_slice() {
        [InputSpec::Video(v) | InputSpec::Image(v)] => v,
        other => {
            return Err(format!("the model has {} sources, and a recording is of one video or image", other.len()));
        }
    };
    let (&[batch, 3, t, h, w], Some(data)) = (clip.shape.as_slice(), clip.floats()) else {
        return Err(format!("`clip` is expected to be [batch, 3, frames, rows, columns], found {:?}", clip.shape));
    };
    if (t, h, w) != (spec.frames, spec.size, spec.size) {
        let (frames, size) = (spec.frames, spec.size);
        return Err(format!("`clip` has {t} frames of {h} x {w}, and the model's {frames} frames of {size} x {size}"));
    }
    let mut pixels = Vec::with_capacity(data.len());
    for one in data.chunks_exact(3 * t * h * w) {
        for at in 0..t * h * w {
            pixels.extend((0..3).map(|channel| one[channel * t * h * w + at]));
        }
    }
    Ok((batch, pixels))
}

/// For each clip, its rows of indices one after another, and their common length. -1 fills a row's end.
type Rows = Vec<(Vec<i32>, usize)>;

fn index_rows(tensor: &Stored, clips: usize, extra: &[usize], tokens: usize) -> std::result::Result<Rows, String> {
    let key = &tensor.key;
    let rows: usize = extra.iter().product();
    let (Some(data), Some(&width)) = (tensor.whole(), tensor.shape.last()) else {
        return Err(format!("`{key}` is expected to hold whole numbers"));
    };
    if tensor.shape.len() < 2 || tensor.shape[0] != clips || data.len() != clips * rows * width || width == 0 {
        return Err(format!("`{key}` is expected to have {clips} clips of {rows} rows, found {:?}", tensor.shape));
    }
    let mut all = Vec::new();
    for clip in data.chunks_exact(rows * width) {
        let (mut indices, mut count) = (Vec::new(), None);
        for row in clip.chunks_exact(width) {
            let length = row.iter().position(|i| *i < 0).unwrap_or(width);
            if *count.get_or_insert(length) != length || length == 0 {
                return Err(format!("`{key}` has rows of different or no length in one clip"));
            }
            if let Some(far) = row[..length].iter().find(|i| **i >= tokens as i64) {
                return Err(format!("`{key}` names token {far}, and there are {tokens}"));
            }
            indices.extend(row[..length].iter().map(|i| *i as i32));
        }
        all.push((indices, count.unwrap_or(0)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::{Pace, Tables, VideoSpec};

    use super::*;
    use crate::checkpoint::Values;

    fn whole(shape: &[usize], data: &[i64]) -> Stored {
        Stored { key: "masked.0".into(), shape: shape.to_vec(), data: Values::Whole(data.to_vec()) }
    }

    #[test]
    fn rows_may_be_filled_with_minus_one() {
        let rows = index_rows(&whole(&[2, 3], &[0, 2, -1, 1, 2, 3]), 2, &[], 4).unwrap();
        assert_eq!(rows, [(vec![0, 2], 2), (vec![1, 2, 3], 3)]);
        assert!(index_rows(&whole(&[2, 3], &[0, 2, -1, 1, 2, 3]), 2, &[], 3).is_err(), "token 3 of 3");
        assert!(index_rows(&whole(&[2, 3], &[0, 2, -1, 1, 2, 3]), 3, &[], 4).is_err(), "three clips");
    }

    #[test]
    fn channels_move_to_the_end() {
        let spec = VideoSpec {
            name: "clip".into(),
            frames: 2,
            pace: Pace::Every(1),
            size: 1,
            crop: None,
            aspect: None,
            flip: false,
        };
        let program = Program {
            tables: Tables { inputs: vec![InputSpec::Video(spec)], ..Tables::default() },
            ..Program::default()
        };
        let data = Values::Floats((0..6).map(|v| v as f32).collect());
        let clip = Stored { key: "clip".into(), shape: vec![1, 3, 2, 1, 1], data };
        assert_eq!(frames(&program, &clip).unwrap(), (1, vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]));
        let other = Stored { shape: vec![1, 3, 1, 2, 1], ..clip };
        assert!(frames(&program, &other).unwrap_err().contains("the model's 2 frames of 1 x 1"));
    }
}
