//! Mask sampling on hand-made answers, and on a hand-made draw entry.

use vjepac::ir::graph::{Dim, Graph, MaskSpec, Outer, SegmentSet, Tables, Type};
use vjepac::ir::op::{BinaryOp, DType, Dist, Op, UnaryOp};
use vjepac::program::{Entry, MaskOutputs, Program, RunSettings};

use super::draw::{Answer, Plane};
use super::{ATTEMPTS, DrawKey, MaskError, MaskSampler, sets};

const TOKENS: usize = 6;

/// Two masks over six tokens; the target of the second has two extra rows.
fn program(group: usize) -> Program {
    let mask =
        |name: &str, target_extra| MaskSpec { name: name.into(), tokens: TOKENS, target_extra, context_extra: vec![] };
    Program {
        tables: Tables {
            masks: vec![mask("masks.0", vec![]), mask("masks.1", vec![2])],
            sets: vec![SegmentSet { masks: vec![0] }, SegmentSet { masks: vec![1] }],
            ..Tables::default()
        },
        run: Some(RunSettings { data: vec![], batch: 3, group, steps: 1, seed: 0, precision: "f32".into() }),
        ..Program::default()
    }
}

fn plane(rows: &[&[i32]], per_block: usize) -> Plane {
    let mut values = vec![false; rows.len() * TOKENS];
    for (r, row) in rows.iter().enumerate() {
        row.iter().for_each(|&i| values[r * TOKENS + i as usize] = true);
    }
    Plane { values, block: per_block * TOKENS }
}

fn holds(yes: &[bool]) -> Plane {
    Plane { values: yes.to_vec(), block: 1 }
}

/// Clips 0, 1, 2 see 4, 3, 2 tokens.
fn answers() -> Vec<Answer> {
    vec![
        Answer {
            context: plane(&[&[0, 1, 2, 5], &[1, 2, 3], &[4, 5]], 1),
            target: plane(&[&[3], &[0, 4, 5], &[0, 1, 2]], 1),
            require: vec![holds(&[true, true, true])],
        },
        Answer {
            context: plane(&[&[0, 1], &[0, 1], &[0, 1]], 1),
            target: plane(&[&[2, 3, 4], &[4, 5], &[1], &[2, 3], &[2, 3], &[4, 5]], 2),
            require: vec![],
        },
    ]
}

fn key() -> DrawKey {
    DrawKey { seed: 7, step: 3, first_clip: 0, clips: 3, attempt: 0 }
}

#[test]
fn groups_are_trimmed_to_their_shortest_and_the_last_may_be_smaller() {
    let got = sets::segments(&program(2), key(), &mut |_| Ok(answers())).unwrap();
    assert_eq!(got.clips, 3);
    assert_eq!(got.sets[0].context, [vec![0, 1, 2], vec![1, 2, 3], vec![4, 5]]);
    assert_eq!(got.sets[0].target, [vec![3], vec![0], vec![0, 1, 2]]);
    assert_eq!(got.sets[0].context_count, [3, 3, 2]);
    assert_eq!(got.sets[0].target_count, [1, 1, 3]);
    // Extra axes ride outermost, and count for the shortest.
    assert_eq!(got.sets[1].target, [vec![2, 4], vec![1, 2], vec![2, 3, 4, 5]]);
    assert_eq!(got.sets[1].target_count, [1, 1, 2]);
}

#[test]
fn a_group_of_one_keeps_every_token() {
    let got = sets::segments(&program(1), key(), &mut |_| Ok(answers())).unwrap();
    assert_eq!(got.sets[0].context_count, [4, 3, 2]);
    assert_eq!(got.sets[0].target_count, [1, 3, 3]);
}

#[test]
fn a_set_of_several_masks_is_mask_major() {
    let mut program = program(1);
    program.tables.masks[1].target_extra = vec![];
    program.tables.sets = vec![SegmentSet { masks: vec![1, 0] }];
    let mut both = answers();
    both[1].target = plane(&[&[3], &[4], &[5]], 1);
    let got = sets::segments(&program, key(), &mut |_| Ok(both.clone())).unwrap();
    assert_eq!(got.sets[0].target, [vec![3], vec![4], vec![5], vec![3], vec![0, 4, 5], vec![0, 1, 2]]);
}

#[test]
fn only_the_failing_clip_of_the_failing_mask_is_drawn_again() {
    let mut asked = Vec::new();
    let mut run = |k: DrawKey| {
        asked.push((k.first_clip, k.clips, k.attempt));
        let mut a = answers();
        match k.attempt {
            0 => a[0].context = plane(&[&[0, 1, 2, 5], &[], &[4, 5]], 1),
            n => {
                let again = |rows: &[&[i32]], of| plane(rows, of);
                a[0] = Answer {
                    context: again(&[&[2, 4]], 1),
                    target: again(&[&[0]], 1),
                    require: vec![holds(&[n == 3])],
                };
                a[1] = Answer { context: again(&[&[5]], 1), target: again(&[&[0], &[0]], 2), require: vec![] };
            }
        }
        Ok(a)
    };
    let got = sets::segments(&program(1), DrawKey { first_clip: 10, ..key() }, &mut run).unwrap();
    assert_eq!(asked, [(10, 3, 0), (11, 1, 1), (11, 1, 2), (11, 1, 3)]);
    assert_eq!(got.sets[0].context, [vec![0, 1, 2, 5], vec![2, 4], vec![4, 5]]);
    assert_eq!(got.sets[1].context[1], [0, 1], "the other mask keeps its first draw");
}

#[test]
fn a_mask_that_never_holds_is_given_up_after_all_attempts() {
    let mut runs = 0;
    let mut run = |_| {
        runs += 1;
        let mut a = answers();
        a[0].require = vec![holds(&[true, true, true]), holds(&[false])];
        Ok(a)
    };
    let error = sets::segments(&program(1), key(), &mut run).unwrap_err();
    assert_eq!(runs, ATTEMPTS);
    let MaskError::Exhausted { mask, clip, reason } = &error else { panic!("{error}") };
    assert_eq!((mask.as_str(), *clip, reason.as_str()), ("masks.0", 0, "its `require` number 2 does not hold"));
}

#[test]
fn a_mask_shared_by_the_batch_has_one_block() {
    let mut a = answers();
    a[0].context = plane(&[&[1, 2]], 1);
    a[0].target = plane(&[&[3]], 1);
    let got = sets::segments(&program(1), key(), &mut |_| Ok(a.clone())).unwrap();
    assert_eq!(got.sets[0].context, [vec![1, 2], vec![1, 2], vec![1, 2]]);
}

/// One mask of one row: token t is a target where a number drawn for the clip is below its share; `require` keeps the
/// first token in the context.
fn drawn_program() -> Program {
    let mut program = program(1);
    program.tables.masks.truncate(1);
    program.tables.sets.truncate(1);
    program.masks = vec![MaskOutputs {
        context: "mask.0.context".into(),
        target: "mask.0.target".into(),
        require: vec!["mask.0.require.0".into()],
    }];
    let graph = &mut program.entries[Entry::Draw as usize];
    let place = "masks.0".into();
    let row = |dtype| Type::new(dtype, Outer::Clips, vec![Dim::fixed(TOKENS, "tokens")]);
    let scalar = Type::scalar(DType::F64);
    let constant = |graph: &mut Graph, v| graph.add(Op::Constant(v), &[], vec![scalar.clone()], None, &place);
    let (zero, one, half) = (constant(graph, 0.0), constant(graph, 1.0), constant(graph, 0.5));
    let draw = Op::Draw { dist: Dist::Uniform, site: "masks.0.x".into() };
    let drawn = graph.add(draw, &[zero, one], vec![row(DType::F64)], None, &place);
    let bound = graph.add(Op::Arrange { from: vec![None] }, &[half], vec![row(DType::F64)], None, &place);
    let target = graph.add(Op::Binary(BinaryOp::Lt), &[drawn, bound], vec![row(DType::Bool)], None, &place);
    let context = graph.add(Op::Unary(UnaryOp::Not), &[target], vec![row(DType::Bool)], None, &place);
    let first = Type::new(DType::Bool, Outer::Clips, vec![Dim::fixed(1, "")]);
    let first = graph.add(Op::Slice { axis: 0, start: vec![] }, &[context], vec![first], None, &place);
    let flat = vec![Type::new(DType::Bool, Outer::Clips, vec![])];
    let require = graph.add(Op::Reshape, &[first], flat, None, &place);
    graph.outputs = vec![
        ("mask.0.context".into(), context),
        ("mask.0.target".into(), target),
        ("mask.0.require.0".into(), require),
    ];
    program
}

#[test]
fn a_program_draws_the_same_for_a_clip_wherever_it_stands() {
    let program = drawn_program();
    let all = MaskSampler::draw(&program, 9, 4, 0, 8).unwrap();
    let set = &all.sets[0];
    for clip in 0..8 {
        let (context, target) = (&set.context[clip], &set.target[clip]);
        assert_eq!(context[0], 0, "the requirement holds");
        let mut both = [context.clone(), target.clone()].concat();
        both.sort();
        assert_eq!(both, (0..TOKENS as i32).collect::<Vec<_>>());
        let alone = MaskSampler::draw(&program, 9, 4, clip, 1).unwrap();
        assert_eq!((&alone.sets[0].context[0], &alone.sets[0].target[0]), (context, target));
    }
    assert_ne!(all, MaskSampler::draw(&program, 9, 5, 0, 8).unwrap());
    assert_ne!(all, MaskSampler::draw(&program, 10, 4, 0, 8).unwrap());
}
