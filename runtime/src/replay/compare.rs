//! Differences of tensors: by kind, absolute and relative to the largest recorded element.

use serde::Serialize;

use super::bounds::Bounds;
use crate::checkpoint::Stored;

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Context,
    Prediction,
    Target,
    Gradient,
    Weight,
}

/// How a tensor differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Key in the recording.
    pub tensor: String,
    /// What it is.
    pub kind: Kind,
    /// max |a - b|; null if one side has no such tensor or an element is no number.
    pub abs: Option<f64>,
    /// max |a - b| / max |b|.
    pub rel: Option<f64>,
    /// Why there is nothing to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Difference {
    /// Within its bound, or without one.
    pub fn ok(&self, bounds: &Bounds) -> bool {
        bounds.tensor(self.kind).is_none_or(|bound| bound.holds_for(self.abs, self.rel))
    }

    /// Nothing to compare, and why.
    pub fn problem(tensor: &str, kind: Kind, problem: impl Into<String>) -> Difference {
        Difference { tensor: tensor.into(), kind, abs: None, rel: None, problem: Some(problem.into()) }
    }

    /// Of pairs (ours, recorded).
    pub fn of(tensor: &str, kind: Kind, pairs: impl Iterator<Item = (f32, f32)>) -> Difference {
        let (mut far, mut size) = (0.0f64, 0.0f64);
        for (a, b) in pairs {
            let (a, b) = (a as f64, b as f64);
            if !(a - b).is_finite() {
                return Difference::problem(tensor, kind, "an element is no number");
            }
            far = far.max((a - b).abs());
            size = size.max(b.abs());
        }
        // A tensor that is zero on both sides does not differ.
        let rel = if far == 0.0 { 0.0 } else { far / size };
        Difference { tensor: tensor.into(), kind, abs: Some(far), rel: rel.is_finite().then_some(rel), problem: None }
    }
}

/// What a recorded tensor is, by its key, if it is an activation or a gradient.
pub fn kind(key: &str) -> Option<Kind> {
    if key == "target" {
        return Some(Kind::Target);
    }
    match key.split_once('.')?.0 {
        "context" => Some(Kind::Context),
        "prediction" => Some(Kind::Prediction),
        "grad" => Some(Kind::Gradient),
        _ => None,
    }
}

/// Compares gradients by key, if any were recorded.
pub fn gradients(ours: Vec<(String, Vec<f32>)>, recorded: &[Stored]) -> Vec<Difference> {
    let recorded: Vec<&Stored> = recorded.iter().filter(|t| kind(&t.key) == Some(Kind::Gradient)).collect();
    if recorded.is_empty() {
        return Vec::new();
    }
    by_key(Kind::Gradient, ours, &recorded)
}

/// Compares weights by key.
pub fn weights(ours: Vec<(String, Vec<f32>)>, recorded: &[Stored]) -> Vec<Difference> {
    by_key(Kind::Weight, ours, &recorded.iter().collect::<Vec<_>>())
}

fn by_key(kind: Kind, mut ours: Vec<(String, Vec<f32>)>, recorded: &[&Stored]) -> Vec<Difference> {
    let mut found = Vec::new();
    for tensor in recorded {
        let place = ours.iter().position(|(key, _)| *key == tensor.key);
        let difference = match (place.map(|i| ours.swap_remove(i).1), tensor.floats()) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Difference::of(&tensor.key, kind, a.into_iter().zip(b.iter().copied()))
            }
            (Some(a), _) => {
                let problem = format!("{} elements here, recorded as {:?}", a.len(), tensor.shape);
                Difference::problem(&tensor.key, kind, problem)
            }
            (None, _) => Difference::problem(&tensor.key, kind, "the program has no such tensor"),
        };
        found.push(difference);
    }
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    found.extend(ours.iter().map(|(key, _)| Difference::problem(key, kind, "not recorded")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Values;
    use crate::replay::bounds::F32;

    fn stored(key: &str, data: &[f32]) -> Stored {
        Stored { key: key.into(), shape: vec![data.len()], data: Values::Floats(data.to_vec()) }
    }

    #[test]
    fn differences_are_relative_to_the_largest_recorded_element() {
        let d = Difference::of("x", Kind::Gradient, [(1.0, 1.0), (4.0, -4.0)].into_iter());
        assert_eq!((d.abs, d.rel, d.ok(&F32)), (Some(8.0), Some(2.0), false));
        let zero = Difference::of("x", Kind::Gradient, [(0.0, 0.0)].into_iter());
        assert!(zero.ok(&F32));
        let appeared = Difference::of("x", Kind::Gradient, [(0.1, 0.0)].into_iter());
        assert!(!appeared.ok(&F32));
        assert!(!Difference::of("x", Kind::Target, [(f32::NAN, 0.0)].into_iter()).ok(&F32));
        assert!(Difference::of("x", Kind::Weight, [(5.0, 1.0)].into_iter()).ok(&F32), "only reported");
    }

    #[test]
    fn what_one_side_lacks_is_told() {
        let ours = vec![("grad.a".to_string(), vec![1.0]), ("grad.b".to_string(), vec![1.0])];
        let found =
            gradients(ours.clone(), &[stored("grad.a", &[1.0]), stored("grad.c", &[2.0]), stored("clip", &[0.0])]);
        let seen: Vec<_> = found.iter().map(|d| (d.tensor.as_str(), d.ok(&F32))).collect();
        assert_eq!(seen, [("grad.a", true), ("grad.c", false), ("grad.b", false)]);
        assert!(gradients(ours, &[stored("clip", &[0.0])]).is_empty(), "no gradients were recorded");
    }
}
