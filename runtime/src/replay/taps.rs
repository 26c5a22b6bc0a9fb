//! Activations: which part of which tap a recorded tensor is.
//!
//! `context.k` and `prediction.k` are the k-th call of `encoder` and of `predictor`; a call that runs over all masks at
//! once stands for one call a mask. `target` is the equation `y`.

use vjepac::ir::graph::{Outer, Segments};
use vjepac::lower::Output;
use vjepac::program::Program;

use super::compare::{Difference, Kind, kind};
use crate::checkpoint::Stored;
use crate::error::{Error, Result};

/// Blocks of a tap that one recorded tensor shows: one a clip.
struct Call<'a> {
    /// For each clip: dims and elements.
    clips: Vec<(Vec<usize>, &'a [f32])>,
}

/// Compares every recorded activation.
pub fn differences(
    program: &Program,
    segments: &Segments,
    outputs: &[Output],
    recorded: &[Stored],
) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for tensor in recorded {
        let (kind, tap, call) = match kind(&tensor.key) {
            Some(Kind::Context) => (Kind::Context, "encoder", place(&tensor.key)?),
            Some(Kind::Prediction) => (Kind::Prediction, "predictor", place(&tensor.key)?),
            Some(Kind::Target) => (Kind::Target, "y", 0),
            Some(Kind::Gradient | Kind::Weight) | None => continue,
        };
        let mut calls = calls(program, segments, outputs, tap);
        if calls.is_empty() {
            return Err(Error::failed(format!(
                "the program does not keep `{tap}`: compile it with `--taps`, from a model that has a field of this name"
            )));
        }
        found.push(if call < calls.len() {
            compare(kind, tensor, &calls.swap_remove(call))
        } else {
            Difference::problem(&tensor.key, kind, format!("`{tap}` is called {} times", calls.len()))
        });
    }
    Ok(found)
}

/// k of `context.k`.
fn place(key: &str) -> Result<usize> {
    let number = key.split_once('.').and_then(|(_, k)| k.parse().ok());
    number.ok_or_else(|| Error::failed(format!("recorded tensor `{key}`: expected a number after the dot")))
}

/// The calls of a tap in order.
fn calls<'a>(program: &Program, segments: &Segments, outputs: &'a [Output], tap: &str) -> Vec<Call<'a>> {
    let equation = format!("tap.{tap}");
    let mut calls = Vec::new();
    let named = |name: &str| outputs.iter().find(|o| o.name == name);
    let mut taps: Vec<&Output> = (0..).map_while(|n| named(&format!("{equation}.{n}"))).collect();
    if taps.is_empty() {
        taps.extend(named(&equation));
    }
    for output in taps {
        let blocks = segments.blocks(&program.tables, output.ty.outer);
        let mut all = Vec::with_capacity(blocks);
        let mut start = 0;
        for block in 0..blocks {
            let dims = segments.dims(&program.tables, &output.ty, block);
            let size = dims.iter().product::<usize>();
            all.push((dims, &output.data[start..start + size]));
            start += size;
        }
        match output.ty.outer {
            // One block for all clips: every clip shows it.
            Outer::One => calls.push(Call { clips: vec![all.swap_remove(0); segments.clips] }),
            Outer::Clips => calls.push(Call { clips: all }),
            Outer::Segments(_) => {
                calls.extend(all.chunks(segments.clips.max(1)).map(|clips| Call { clips: clips.to_vec() }));
            }
        }
    }
    calls
}

/// Compares a call with a recorded [B, K, ...]; a clip with fewer tokens than K has its own rows compared.
fn compare(kind: Kind, tensor: &Stored, call: &Call) -> Difference {
    let key = &tensor.key;
    let clips = call.clips.len();
    let Some(data) = tensor.floats().filter(|_| tensor.shape.first() == Some(&clips) && tensor.shape.len() > 1) else {
        return Difference::problem(key, kind, format!("{clips} clips here, recorded as {:?}", tensor.shape));
    };
    let size = data.len() / clips;
    let mut pairs = Vec::new();
    for ((dims, ours), recorded) in call.clips.iter().zip(data.chunks_exact(size)) {
        let fits = dims.len() + 1 == tensor.shape.len()
            && dims.first() <= tensor.shape.get(1)
            && dims.iter().skip(1).eq(tensor.shape.iter().skip(2));
        if !fits {
            return Difference::problem(key, kind, format!("{dims:?} a clip here, recorded as {:?}", tensor.shape));
        }
        pairs.extend(ours.iter().copied().zip(recorded.iter().copied()));
    }
    Difference::of(key, kind, pairs.into_iter())
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::{Count, CountId, CountKind, Dim, Extent, SegmentData, SegmentSet, SetId, Tables, Type};
    use vjepac::ir::op::DType;

    use super::*;
    use crate::checkpoint::Values;

    #[test]
    fn a_call_over_all_masks_stands_for_one_a_mask() {
        let program = Program {
            tables: Tables {
                sets: vec![SegmentSet { masks: vec![0, 1] }],
                counts: vec![Count { kind: CountKind::Context(SetId(0)), bound: 3 }],
                ..Tables::default()
            },
            ..Program::default()
        };
        let set = SegmentData { context_count: vec![1, 2, 2, 1], ..SegmentData::default() };
        let segments = Segments { clips: 2, sets: vec![set] };
        let dims = vec![Dim::new(Extent::Counted(CountId(0)), "context"), Dim::fixed(2, "dim")];
        let output = Output {
            name: "tap.encoder.0".into(),
            ty: Type::new(DType::F32, Outer::Segments(SetId(0)), dims),
            data: (0..12).map(|v| v as f32).collect(),
        };
        let recorded = |key: &str, data: &[f32]| Stored {
            key: key.into(),
            shape: vec![2, 2, 2],
            data: Values::Floats(data.to_vec()),
        };
        let both = [
            recorded("context.0", &[0.0, 1.0, 99.0, 99.0, 2.0, 3.0, 4.0, 5.0]),
            recorded("context.1", &[6.0, 7.0, 8.0, 9.0, 10.0, 11.5, 99.0, 99.0]),
            recorded("context.2", &[0.0; 8]),
        ];
        let found = differences(&program, &segments, std::slice::from_ref(&output), &both).unwrap();
        let abs: Vec<_> = found.iter().map(|d| d.abs).collect();
        assert_eq!(abs, [Some(0.0), Some(0.5), None]);
        let error = differences(&program, &segments, &[output], &[recorded("target", &[0.0; 8])]).unwrap_err();
        assert!(error.to_string().contains("compile it with `--taps`"));
    }
}
