//! `vjepac keys`: the stored tensors of a model, in the order of its fields.

use serde_json::{Value, json};
use vjepac::model::{Weight, WeightKind};

use super::session::{Failure, Session, pretty, print};

/// Prints key, shape and kind of every stored tensor.
pub fn run(session: &mut Session, json: bool) -> Result<(), Failure> {
    let model = session.checked()?;
    if json {
        let all: Vec<Value> =
            model.weights.iter().map(|w| json!({ "key": w.key, "shape": w.stored, "kind": kind(w) })).collect();
        print(&pretty(&Value::Array(all)));
        return Ok(());
    }
    let width = model.weights.iter().map(|w| w.key.len()).max().unwrap_or(0);
    let line = |w: &Weight| format!("{:width$}  {:8}  {:?}\n", w.key, kind(w), w.stored);
    print(&model.weights.iter().map(line).collect::<String>());
    Ok(())
}

/// What a weight is to training, in a word.
pub fn kind(weight: &Weight) -> &'static str {
    match weight.kind {
        WeightKind::Trained(_) => "trained",
        WeightKind::Average(..) => "average",
        WeightKind::Frozen => "frozen",
        WeightKind::Buffer => "buffer",
    }
}
