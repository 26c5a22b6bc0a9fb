//! Weights of other files: `--weights FIELD=FILE[:PREFIX]`.
//!
//! Strict: every weight under FIELD must be in the file, every tensor under PREFIX must have a place, and all that does
//! not fit is told at once. A stored dimension may be spelt out in the file (`[1, 1, 384]` for `[384]`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vjepac::ir::graph::{SlotId, SlotKind};

use super::tensors::read_tensors;
use crate::device::Session;
use crate::error::{Error, Result};

/// How far a buffer of a file may lie from the computed one; buffers are computed in f64 and stored in f32 or bf16.
const BUFFER_BOUND: f32 = 1e-2;
/// How many misfits are spelt out.
const SHOWN: usize = 20;

/// Where a field's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsFrom {
    /// Field of the model, such as `encoder`.
    pub field: String,
    /// A safetensors file.
    pub file: PathBuf,
    /// What the file's keys have in place of `FIELD.`, up to and including the last dot.
    pub prefix: Option<String>,
}

impl std::str::FromStr for WeightsFrom {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("expected FIELD=FILE[:PREFIX], found `{text}`");
        let (field, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (file, prefix) = match rest.split_once(':') {
            Some((file, prefix)) => (file, Some(prefix.to_string())),
            None => (rest, None),
        };
        if field.is_empty() || file.is_empty() {
            return Err(wrong());
        }
        Ok(WeightsFrom { field: field.into(), file: file.into(), prefix })
    }
}

/// Loads a field's weights; gives the slots that were filled.
pub fn load_weights(session: &mut Session, from: &WeightsFrom) -> Result<Vec<SlotId>> {
    let field = format!("{}.", from.field);
    load_under(session, &field, &from.file, from.prefix.as_ref().unwrap_or(&field))
}

/// Loads the weights of the whole model from a file that has the model's own keys.
pub fn load_model(session: &mut Session, file: &Path) -> Result<()> {
    load_under(session, "", file, "").map(|_| ())
}

/// Loads what is called `field...` in the program and `prefix...` in the file.
fn load_under(session: &mut Session, field: &str, file: &Path, prefix: &str) -> Result<Vec<SlotId>> {
    let mut wanted: BTreeMap<String, (SlotId, Vec<usize>, bool)> = session
        .slots()
        .filter_map(|(id, slot)| {
            let rest = slot.key.strip_prefix(field)?;
            let buffer = match slot.kind {
                SlotKind::Trained { .. } | SlotKind::Average { .. } | SlotKind::Frozen | SlotKind::Unused => false,
                SlotKind::Buffer => true,
                SlotKind::Moment { .. } | SlotKind::Gradient { .. } => return None,
            };
            Some((rest.to_string(), (id, slot.shape.clone(), buffer)))
        })
        .collect();
    if wanted.is_empty() {
        return Err(Error::usage(format!(
            "--weights: the program has no weights under `{}`",
            field.trim_end_matches('.')
        )));
    }
    let place = if field.is_empty() { "the model".to_string() } else { format!("`{}`", field.trim_end_matches('.')) };
    let (mut wrong, mut filled) = (Vec::new(), Vec::new());
    for tensor in read_tensors(file)? {
        let Some(rest) = tensor.key.strip_prefix(prefix) else { continue };
        let (key, shape) = (&tensor.key, &tensor.shape);
        match (wanted.remove(rest), tensor.floats()) {
            (None, _) => wrong.push(format!("`{key}` of the file has no place in {place}")),
            (Some((_, want, _)), data) if data.is_none() || !expands(&want, shape) => {
                wrong.push(format!("`{key}` is {shape:?} in the file, {want:?} in the program"));
            }
            (Some((id, _, true)), Some(data)) => {
                let far = session.slot(id).iter().zip(data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                if far > BUFFER_BOUND {
                    wrong.push(format!("`{key}` is computed by the program, and the file's differs by {far:.3}"));
                }
            }
            (Some((id, _, false)), Some(data)) => {
                session.set_slot(id, data);
                filled.push(id);
            }
            (Some(_), None) => unreachable!("compiler bug: a tensor of whole numbers was taken"),
        }
    }
    wrong.extend(
        wanted
            .iter()
            .filter(|(_, (_, _, buffer))| !buffer)
            .map(|(rest, _)| format!("`{prefix}{rest}` is not in the file")),
    );
    if wrong.is_empty() {
        return Ok(filled);
    }
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    let list = wrong.join("\n  ");
    let begin =
        if prefix.is_empty() { String::new() } else { format!(" (keys are expected to begin with `{prefix}`)") };
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Err(Error::failed(format!("weights of `{}` do not fit{begin}:\n  {list}{more}", file.display())))
}

/// True if `file` is `stored` with dims split into several, or with dims of one added or dropped.
fn expands(stored: &[usize], file: &[usize]) -> bool {
    let mut rest = file.iter().filter(|n| **n != 1);
    for &want in stored.iter().filter(|n| **n != 1) {
        let mut have = 1;
        while have < want {
            match rest.next() {
                Some(n) => have *= n,
                None => return false,
            }
        }
        if have != want {
            return false;
        }
    }
    rest.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expanded_shapes_are_accepted() {
        assert!(expands(&[384], &[1, 1, 384]));
        assert!(expands(&[1024, 1536], &[1024, 3, 2, 16, 16]));
        assert!(expands(&[1, 4], &[4]));
        assert!(!expands(&[4, 6], &[6, 4]));
        assert!(!expands(&[4], &[4, 2]));
        assert!(!expands(&[4, 2], &[4]));
    }

    #[test]
    fn the_flag_is_read() {
        let from: WeightsFrom = "encoder=a/b.safetensors:module.".parse().unwrap();
        assert_eq!((from.field.as_str(), from.prefix.as_deref()), ("encoder", Some("module.")));
        assert!("encoder".parse::<WeightsFrom>().is_err());
        assert!("=x".parse::<WeightsFrom>().is_err());
    }
}
