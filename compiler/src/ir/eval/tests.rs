//! What every op means, with numbers worked by hand (a few from PyTorch, as said).

use super::*;
use crate::ir::graph::SegmentData;
use crate::ir::parse_text::parse_module;
use crate::ir::verify::verify;

/// Sums of a few f64 products and functions.
const EXACT: f64 = 1e-12;

/// Two clips, two masks: segments (mask 0, clip 0), (0, 1), (1, 0), (1, 1).
const HEADER: &str = r#"slot s0 "w" [2, 3] trained
slot s1 "x" [3] trained
slot s2 "m" [3] moment s1 "exp_avg"
slot s3 "g" [2, 2, 4, 1] frozen
input i0 label 4
scalar n0 "lr"
mask m0 "m.0" tokens 4 context [] target []
mask m1 "m.1" tokens 4 context [] target []
set set0 [0, 1]
count c0 context set0 bound 4
count c1 target set0 bound 4
count c2 sum c0 c1 bound 8
%0: f32 one [2, 3] = read {s0}
%1: f32 one [3] = read {s1}
%2: i32 clips [] = input {i0}
%3: f32 clips [] = cast %2
%4: i32 segments0 [c0] = index {set0, context}
%5: i32 segments0 [c1] = index {set0, target}
%6: f32 segments0 [c0] = cast %4
%7: f32 segments0 [c1] = cast %5
%8: f32 one [2, 2, 4, 1] = read {s3}
"#;

fn env() -> Env {
    Env {
        segments: Segments {
            clips: 2,
            sets: vec![SegmentData {
                context: vec![vec![0, 3], vec![1], vec![2], vec![0, 1]],
                target: vec![vec![1], vec![0, 2, 3], vec![0], vec![3]],
                context_count: vec![2, 1, 1, 2],
                target_count: vec![1, 3, 1, 1],
            }],
        },
        inputs: vec![vec![2.0, 1.0]],
        scalars: vec![0.25],
        slots: vec![
            vec![1.0, 2.0, 3.0, -1.0, 0.5, 4.0],
            vec![2.0, -3.0, 0.25],
            vec![1.0, 1.0, 1.0],
            (0..16).map(f64::from).collect(),
        ],
        seed: 1,
        step: 1,
        ..Env::default()
    }
}

/// The blocks of `%99`, and the slots afterwards.
fn run(body: &str) -> (Vec<Vec<f64>>, Env) {
    let (tables, graph) = parse_module(&format!("{HEADER}{body}\noutput \"y\" = %99")).unwrap();
    verify(&tables, &graph).unwrap();
    let mut env = env();
    let y = eval(&tables, &graph, &mut env).unwrap().remove(0).1;
    (y.blocks, env)
}

#[track_caller]
fn is(body: &str, expected: &[&[f64]]) {
    let (found, _) = run(body);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (f, e) in found.iter().zip(expected) {
        let same = f.len() == e.len() && f.iter().zip(*e).all(|(f, e)| f == e || (f - e).abs() <= EXACT);
        assert!(same, "{body}\nfound {found:?}\nexpected {expected:?}");
    }
}

#[test]
fn leaves() {
    is("%99: f64 one [] = scalar {n0}", &[&[0.25]]);
    is("%99: f64 one [] = constant {-1.5}", &[&[-1.5]]);
    is("%99: i32 one [3] = iota", &[&[0.0, 1.0, 2.0]]);
    is("%99: i32 segments0 [c1] = iota", &[&[0.0], &[0.0, 1.0, 2.0], &[0.0], &[0.0]]);
    is("%99: i32 segments0 [c1] = index {set0, target}", &[&[1.0], &[0.0, 2.0, 3.0], &[0.0], &[3.0]]);
    is("%99: i32 segments0 [] = strategy {set0}", &[&[0.0], &[0.0], &[1.0], &[1.0]]);
    is("%99: f64 segments0 [] = size {[c2, 5]}", &[&[15.0], &[20.0], &[10.0], &[15.0]]);
    is("%99: f64 one [] = size {[2, 5]}", &[&[10.0]]);
    is("%99: i32 clips [] = input {i0}", &[&[2.0], &[1.0]]);
}

#[test]
fn functions_of_one_argument() {
    let x = [2.0f64, -3.0, 0.25];
    let of = |name: &str, f: &dyn Fn(f64) -> f64| is(&format!("%99: f32 one [3] = {name} %1"), &[&x.map(f)]);
    of("neg", &|x| -x);
    of("exp", &f64::exp);
    of("abs", &f64::abs);
    of("sin", &f64::sin);
    of("cos", &f64::cos);
    of("tanh", &f64::tanh);
    of("floor", &|x| if x == 0.25 { 0.0 } else { x });
    of("ceil", &|x| if x == 0.25 { 1.0 } else { x });
    of("sign", &|x| if x < 0.0 { -1.0 } else { 1.0 });
    // erf(2), erf(3), erf(1/4) from tables.
    of("erf", &|x| {
        x.signum()
            * if x == 2.0 {
                0.9953222650189527
            } else if x < 0.0 {
                0.9999779095030014
            } else {
                0.27632639016823696
            }
    });
    is("%98: f32 one [3] = abs %1\n%99: f32 one [3] = log %98", &[&[2f64.ln(), 3f64.ln(), 0.25f64.ln()]]);
    is("%98: f32 one [3] = abs %1\n%99: f32 one [3] = sqrt %98", &[&[2f64.sqrt(), 3f64.sqrt(), 0.5]]);
    // Halves go to the even neighbour.
    is(
        "%96: f32 one [] = constant {0.5}\n%97: f32 one [3] = arrange {from=[_]} %96\n%98: f32 one [3] = add %1, %97\n%99: f32 one [3] = round %98",
        &[&[2.0, -2.0, 1.0]],
    );
    is("%98: bool one [3] = lt %1, %1\n%99: bool one [3] = not %98", &[&[1.0, 1.0, 1.0]]);
}

#[test]
fn functions_of_two_arguments() {
    let head = "%90: f32 one [3] = reduce {sum, axes=[0]} %0\n"; // 0, 2.5, 7
    let of = |op: &str, ty: &str, expected: [f64; 3]| {
        is(&format!("{head}%99: {ty} one [3] = {op} %1, %90"), &[&expected]);
    };
    of("add", "f32", [2.0, -0.5, 7.25]);
    of("sub", "f32", [2.0, -5.5, -6.75]);
    of("mul", "f32", [0.0, -7.5, 1.75]);
    of("div", "f32", [f64::INFINITY, -1.2, 0.25 / 7.0]);
    of("min", "f32", [0.0, -3.0, 0.25]);
    of("max", "f32", [2.0, 2.5, 7.0]);
    of("lt", "bool", [0.0, 1.0, 1.0]);
    of("le", "bool", [0.0, 1.0, 1.0]);
    of("gt", "bool", [1.0, 0.0, 0.0]);
    of("ge", "bool", [1.0, 0.0, 0.0]);
    of("eq", "bool", [0.0, 0.0, 0.0]);
    of("ne", "bool", [1.0, 1.0, 1.0]);
    // The sign of the divisor: -3 mod 2.5 is 2.
    let rem = |x: f64, y: f64| x.exp() - y * (x.exp() / y).floor();
    let expected = [rem(0.0, 2.0), rem(2.5, -3.0), rem(7.0, 0.25)];
    is(&format!("{head}%91: f32 one [3] = exp %90\n%99: f32 one [3] = rem %91, %1"), &[&expected]);
    is("%99: f32 one [3] = pow %1, %1", &[&[4.0, -1.0 / 27.0, 0.25f64.powf(0.25)]]);
    let bools = "%90: f32 one [3] = neg %1\n%91: bool one [3] = lt %1, %90\n%92: bool one [3] = not %91\n";
    is(&format!("{bools}%99: bool one [3] = and %91, %92"), &[&[0.0, 0.0, 0.0]]);
    is(&format!("{bools}%99: bool one [3] = or %91, %92"), &[&[1.0, 1.0, 1.0]]);
    is(&format!("{bools}%99: f32 one [3] = select %91, %1, %90"), &[&[-2.0, -3.0, -0.25]]);
    is("%99: i32 one [3] = cast %1", &[&[2.0, -3.0, 0.0]]);
    is("%99: bool one [3] = cast %1", &[&[1.0, 1.0, 1.0]]);
    is("%99: f32 one [3] = stop %1", &[&[2.0, -3.0, 0.25]]);
}

#[test]
fn views() {
    is("%99: f32 one [3, 2] = arrange {from=[1, 0]} %0", &[&[1.0, -1.0, 2.0, 0.5, 3.0, 4.0]]);
    is("%99: f32 segments0 [2] = arrange {from=[_]} %3", &[&[2.0, 2.0], &[1.0, 1.0], &[2.0, 2.0], &[1.0, 1.0]]);
    is("%99: f32 one [3, 2] = reshape %0", &[&[1.0, 2.0, 3.0, -1.0, 0.5, 4.0]]);
    is("%99: f32 one [2, 1] = slice {axis=1, start=[1, 1]} %0", &[&[3.0, 4.0]]);
    is("%99: f32 one [3, 3] = pad {axis=0, before=[1]} %0", &[&[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 4.0]]);
    is("%99: f32 one [2, 6] = concat {axis=1} %0, %0", &[&[1., 2., 3., 1., 2., 3., -1., 0.5, 4., -1., 0.5, 4.]]);
    let both: [&[f64]; 4] = [&[0., 3., 1.], &[1., 0., 2., 3.], &[2., 0.], &[0., 1., 3.]];
    is("%99: f32 segments0 [c2] = concat {axis=0} %6, %7", &both);
    is(
        "%98: f32 segments0 [c2] = concat {axis=0} %6, %7\n%99: f32 segments0 [c1] = slice {axis=0, start=[c0]} %98",
        &[&[1.0], &[0.0, 2.0, 3.0], &[0.0], &[3.0]],
    );
    is(
        "%99: f32 segments0 [c2] = pad {axis=0, before=[c0]} %7",
        &[&[0., 0., 1.], &[0., 0., 2., 3.], &[0., 0.], &[0., 0., 3.]],
    );
}

#[test]
fn rows() {
    let x = "%90: f32 one [4, 2] = reshape %89\n";
    let x = format!("%88: f32 one [2, 1, 4, 1] = slice {{axis=1, start=[1]}} %8\n%89: f32 one [8] = reshape %88\n{x}");
    // Rows 4 5 | 6 7 | 12 13 | 14 15.
    is(
        &format!("{x}%99: f32 segments0 [c0, 2] = gather {{axis=0, shared=0}} %90, %4"),
        &[&[4., 5., 14., 15.], &[6., 7.], &[12., 13.], &[4., 5., 6., 7.]],
    );
    is(
        &format!("{x}%99: f32 segments0 [2] = gather {{axis=0, shared=0}} %90, %91")
            .replace("%99", "%91: i32 segments0 [] = strategy {set0}\n%99"),
        &[&[4., 5.], &[4., 5.], &[6., 7.], &[6., 7.]],
    );
    // Every row of x picks its own: argmax gives 2, 2.
    is("%98: i32 one [2] = argmax {axis=1} %0\n%99: f32 one [2] = gather {axis=1, shared=1} %0, %98", &[&[3.0, 4.0]]);
    is("%99: f32 one [4] = scatter_add {axis=0, shared=0} %6, %4", &[&[0.0, 2.0, 2.0, 3.0]]);
    is("%99: f32 clips [4] = scatter_add {axis=0, shared=0} %6, %4", &[&[0.0, 0.0, 2.0, 3.0], &[0.0, 2.0, 0.0, 0.0]]);
    is("%99: f32 clips [4] = one_hot %2", &[&[0., 0., 1., 0.], &[0., 1., 0., 0.]]);
}

#[test]
fn an_index_outside_is_an_error() {
    let text = format!("{HEADER}%99: f32 segments0 [c0] = gather {{axis=0, shared=0}} %1, %4\noutput \"y\" = %99");
    let (tables, graph) = parse_module(&text).unwrap();
    let error = eval(&tables, &graph, &mut env()).unwrap_err();
    assert!(error.contains("index 3 lies outside 0..3") && error.contains("gather"), "{error}");
}

#[test]
fn reductions() {
    let of =
        |op: &str, expected: [f64; 2]| is(&format!("%99: f32 one [2] = reduce {{{op}, axes=[1]}} %0"), &[&expected]);
    of("sum", [6.0, 3.5]);
    of("mean", [2.0, 3.5 / 3.0]);
    of("max", [3.0, 4.0]);
    of("min", [1.0, -1.0]);
    is("%99: f32 one [] = reduce {sum, axes=[0, 1]} %0", &[&[9.5]]);
    is("%99: f32 segments0 [] = reduce {mean, axes=[0]} %7", &[&[1.0], &[5.0 / 3.0], &[0.0], &[3.0]]);
    let c = "%98: f32 one [2, 3] = neg %0\n%97: bool one [2, 3] = lt %0, %98\n"; // only -1 is below its negative
    is(&format!("{c}%99: bool one [3] = reduce {{any, axes=[0]}} %97"), &[&[1.0, 0.0, 0.0]]);
    is(&format!("{c}%99: bool one [3] = reduce {{all, axes=[0]}} %97"), &[&[0.0, 0.0, 0.0]]);
    is(&format!("{c}%99: f64 one [2] = reduce {{count, axes=[1]}} %97"), &[&[0.0, 1.0]]);
    is("%99: i32 one [3] = argmax {axis=0} %0", &[&[0.0, 0.0, 1.0]]);
    is("%98: f32 segments0 [] = arrange {from=[]} %3\n%99: f32 clips [] = fold {sum} %98", &[&[4.0], &[2.0]]);
    is("%99: f32 one [] = fold {mean} %3", &[&[1.5]]);
}

#[test]
fn contractions() {
    is("%99: f32 one [2] = einsum {ab,b->a} %0, %1", &[&[-3.25, -2.5]]);
    is("%99: f32 one [3, 2] = einsum {ab,b->ba} %0, %1", &[&[2.0, -2.0, -6.0, -1.5, 0.75, 1.0]]);
    is("%99: f32 one [] = einsum {ab,c->} %0, %1", &[&[9.5 * -0.75]]);
    // Blocks fall together: sum over segments of context numbers, times x.
    is("%99: f32 clips [3] = einsum {a,b->b} %6, %1", &[&[10.0, -15.0, 1.25], &[4.0, -6.0, 0.5]]);
    is("%99: f32 one [3] = einsum {a,b->b} %6, %1", &[&[14.0, -21.0, 1.75]]);
    is("%98: f32 one [2] = reduce {sum, axes=[1]} %0\n%99: f32 one [2] = linear %1, %0, %98", &[&[2.75, 1.0]]);
}

#[test]
fn idioms() {
    // Row 1, 2, 3: mean 2, variance 2/3.
    let r = 1.0 / (2f64 / 3.0 + 0.5).sqrt();
    let row = "%90: f32 one [1, 3] = slice {axis=0, start=[]} %0\n";
    is(&format!("{row}%99: f32 one [1, 3] = layer_norm {{eps=0.5}} %90"), &[&[-r, 0.0, r]]);
    is(
        &format!("{row}%99: f32 one [1, 3] = layer_norm {{eps=0.5}} %90, %1, %1"),
        &[&[2.0 - 2.0 * r, -3.0, 0.25 + 0.25 * r]],
    );
    let e = [1f64, 2.0, 3.0].map(f64::exp);
    let s: f64 = e.iter().sum();
    is(&format!("{row}%99: f32 one [1, 3] = softmax %90"), &[&e.map(|e| e / s)]);
    // torch.nn.functional.gelu in f64.
    is(&format!("{row}%99: f32 one [1, 3] = gelu %90"), &[&[0.8413447460685429, 1.9544997361036416, 2.99595030590511]]);
    // One query 2 against keys 1, 3 with values 10, 20; weights 1 : e^2 at scale 1/2.
    let parts = "%90: f32 one [1] = slice {axis=0, start=[]} %1\n%91: f32 one [1, 1, 1] = reshape %90\n\
                 %92: f32 one [1, 3] = slice {axis=0, start=[]} %0\n%93: f32 one [3, 1, 1] = reshape %92\n\
                 %94: f32 one [3, 1, 1] = mul %93, %93\n";
    let e = [1f64, 2.0, 3.0].map(f64::exp);
    let expected = (e[0] + 4.0 * e[1] + 9.0 * e[2]) / e.iter().sum::<f64>();
    is(&format!("{parts}%99: f32 one [1, 1, 1] = attention {{scale=0.5}} %91, %93, %94"), &[&[expected]]);
}

#[test]
fn patches_are_rows_ordered_channel_frame_row_column() {
    // Pixels 0..16 of [2 frames, 2 rows, 4 columns, 1 channel]; tubelets of 2 x 1 x 2.
    let all = [0., 1., 8., 9., 2., 3., 10., 11., 4., 5., 12., 13., 6., 7., 14., 15.];
    is("%99: f32 one [4, 4] = patches {tube=2, dy=1, dx=2} %8", &[&all]);
    is(
        "%99: f32 segments0 [c0, 4] = patches {tube=2, dy=1, dx=2} %8, %4",
        &[
            &[0., 1., 8., 9., 6., 7., 14., 15.],
            &[2., 3., 10., 11.],
            &[4., 5., 12., 13.],
            &[0., 1., 8., 9., 2., 3., 10., 11.],
        ],
    );
    // Two channels: the same sixteen numbers as [2 frames, 2 rows, 2 columns, 2 channels].
    is(
        "%98: f32 one [2, 2, 2, 2] = reshape %8\n%99: f32 one [2, 8] = patches {tube=2, dy=1, dx=2} %98",
        &[&[0., 2., 8., 10., 1., 3., 9., 11., 4., 6., 12., 14., 5., 7., 13., 15.]],
    );
}

#[test]
fn effects_land_when_the_run_ends() {
    let body = "%90: f32 one [3] = mul %1, %1\n%91: f32 one [3] = store {s1} %90\n%92: f32 one [3] = accumulate {s2} %1\n\
                %93: f32 one [3] = accumulate {s2} %90\n%99: f32 one [3] = add %91, %1";
    let (found, env) = run(body);
    assert_eq!(found, [[6.0, 6.0, 0.3125]]);
    assert_eq!(env.slots[1], [4.0, 9.0, 0.0625]);
    assert_eq!(env.slots[2], [7.0, 7.0, 1.3125]);
    let (_, env) = run("%90: f64 one [] = constant {0.75}\n%99: f32 one [3] = ema {s2} %1, %90");
    assert_eq!(env.slots[2], [1.25, 0.0, 0.8125]);
}

#[test]
fn rounding_follows_the_element_type() {
    let text = format!(
        "{HEADER}%90: f64 one [] = constant {{0.1}}\n%91: f32 one [] = cast %90\n%92: bf16 one [] = cast %90\n\
                        output \"f64\" = %90\noutput \"f32\" = %91\noutput \"bf16\" = %92"
    );
    let (tables, graph) = parse_module(&text).unwrap();
    let mut env = Env { round: true, ..env() };
    let found: Vec<f64> = eval(&tables, &graph, &mut env).unwrap().iter().map(|(_, t)| t.blocks[0][0]).collect();
    assert_eq!(found, [0.1, f64::from(0.1f32), 0.10009765625]);
}

/// A clip's draws are its own: not those of its place in a call, nor of the number of clips beside it.
#[test]
fn draws_belong_to_clip_and_attempt() {
    let text = format!(
        "{HEADER}%90: f64 one [] = constant {{1.0}}\n%91: f64 one [] = constant {{5.0}}\n\
         %92: f64 clips [3] = draw {{uniform, \"a\"}} %90, %91\n%93: f64 clips [3] = draw {{whole, \"b\"}} %90, %91\n\
         %94: i32 clips [5] = draw {{permutation, \"c\"}}\n%95: f64 one [3] = draw {{trunc_normal, \"d\"}} %90\n\
         output \"u\" = %92\noutput \"w\" = %93\noutput \"p\" = %94\noutput \"t\" = %95"
    );
    let (tables, graph) = parse_module(&text).unwrap();
    let draw = |clips: usize, clip_base: u64, attempts: &[u32]| {
        let mut env = Env { clip_base, attempts: attempts.into(), ..env() };
        env.segments.clips = clips;
        eval(&tables, &graph, &mut env).unwrap().into_iter().map(|(_, t)| t.blocks).collect::<Vec<_>>()
    };
    let (both, second, again) = (draw(2, 6, &[]), draw(1, 7, &[]), draw(2, 6, &[0, 1]));
    for k in 0..3 {
        assert_eq!(both[k][1], second[k][0]);
        assert_eq!(both[k][0], again[k][0]);
        assert_ne!(both[k][1], again[k][1]);
    }
    assert_eq!(both[3], again[3], "one for the step: drawing a clip again leaves it alone");
    assert!(both[0].concat().iter().all(|u| (1.0..5.0).contains(u)));
    assert!(both[1].concat().iter().all(|w| w.fract() == 0.0 && (1.0..=5.0).contains(w)));
    let mut order = both[2][0].clone();
    order.sort_by(f64::total_cmp);
    assert_eq!(order, [0.0, 1.0, 2.0, 3.0, 4.0]);
}
