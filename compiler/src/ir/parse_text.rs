//! Reads the text that `print` writes, so that tests can be text files.
//!
//! Lines that start with `//` are comments; nodes may be numbered as one likes, as long as they stand before their
//! users. `parse_module` does not verify: a test may want a graph that must fail.

use std::collections::BTreeMap;

use petgraph::stable_graph::NodeIndex;

use super::graph::{
    Count, CountId, CountKind, Dim, Extent, Graph, InputId, InputSpec, MaskSpec, Outer, Pace, ScalarId, ScalarSpec,
    SegmentSet, SetId, Slot, SlotId, SlotKind, Tables, Type, Value, VideoSpec,
};
use super::op::{BinaryOp, DType, Dist, Op, ReduceOp, UnaryOp, Which};
use super::print::{binary_name, dist_name, reduce_name, unary_name};

/// Tables and graph from text. The error names the line.
pub fn parse_module(text: &str) -> Result<(Tables, Graph), String> {
    let (mut tables, mut graph) = (Tables::default(), Graph::default());
    let mut nodes: BTreeMap<usize, NodeIndex> = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let mut c = Cursor { rest: line.trim() };
        if c.rest.is_empty() || c.rest.starts_with("//") {
            continue;
        }
        let parsed = if c.rest.starts_with('%') {
            c.node(&mut graph, &mut nodes)
        } else if c.eat("output ") {
            c.output(&mut graph, &nodes)
        } else {
            c.table(&mut tables)
        };
        parsed.and_then(|()| c.end()).map_err(|e| format!("line {}: {e}\n  {line}", i + 1))?;
    }
    Ok((tables, graph))
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, s: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(s) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, s: &str) -> Result<(), String> {
        if self.eat(s) { Ok(()) } else { Err(self.wrong(&format!("`{s}`"))) }
    }

    fn wrong(&self, expected: &str) -> String {
        format!("expected {expected}, found `{}`", self.rest)
    }

    fn end(&self) -> Result<(), String> {
        if self.rest.trim().is_empty() { Ok(()) } else { Err(self.wrong("the end of the line")) }
    }

    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        self.rest = self.rest.trim_start();
        let n = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(n);
        self.rest = rest;
        word
    }

    fn word(&mut self) -> &'a str {
        self.take(|c| c.is_alphanumeric() || "_.-'".contains(c))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let before = self.rest;
        let word = self.take(|c| c.is_alphanumeric() || ".-+".contains(c));
        word.parse().map_err(|_| format!("expected a number, found `{}`", before.trim_start()))
    }

    /// A number after a letter or word: `s3`, `set0`.
    fn id(&mut self, prefix: &str) -> Result<u32, String> {
        self.expect(prefix)?;
        self.number()
    }

    fn string(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        match stream.next() {
            Some(Ok(s)) => {
                self.rest = &self.rest[stream.byte_offset()..];
                Ok(s)
            }
            Some(Err(_)) | None => Err(self.wrong("a string in quotes")),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        self.expect("[")?;
        let mut items = vec![];
        while !self.eat("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    // ---- tables

    fn table(&mut self, tables: &mut Tables) -> Result<(), String> {
        match self.word() {
            "network" => {
                self.place("", tables.networks.len())?;
                tables.networks.push(self.string()?);
            }
            "scalar" => {
                self.place("n", tables.scalars.len())?;
                let name = self.string()?;
                let schedule = if self.eat("schedule") { Some(self.number()?) } else { None };
                tables.scalars.push(ScalarSpec { name, schedule, previous: self.eat("previous") });
            }
            "slot" => {
                self.place("s", tables.slots.len())?;
                let (key, shape) = (self.string()?, self.list(Self::number)?);
                tables.slots.push(Slot { key, shape, kind: self.slot_kind()? });
            }
            "input" => {
                self.place("i", tables.inputs.len())?;
                tables.inputs.push(match self.word() {
                    "video" => InputSpec::Video(self.video()?),
                    "image" => InputSpec::Image(self.video()?),
                    "label" => InputSpec::Label { classes: self.number()? },
                    other => return Err(format!("expected video, image or label, found `{other}`")),
                });
            }
            "mask" => {
                self.place("m", tables.masks.len())?;
                let name = self.string()?;
                self.expect("tokens")?;
                let tokens = self.number()?;
                let context_extra = if self.eat("context") { self.list(Self::number)? } else { vec![] };
                let target_extra = if self.eat("target") { self.list(Self::number)? } else { vec![] };
                tables.masks.push(MaskSpec { name, tokens, target_extra, context_extra });
            }
            "set" => {
                self.place("set", tables.sets.len())?;
                tables.sets.push(SegmentSet { masks: self.list(Self::number)? });
            }
            "count" => {
                self.place("c", tables.counts.len())?;
                let kind = match self.word() {
                    "context" => CountKind::Context(SetId(self.id("set")?)),
                    "target" => CountKind::Target(SetId(self.id("set")?)),
                    "sum" => CountKind::Sum(CountId(self.id("c")?), CountId(self.id("c")?)),
                    "plus" => CountKind::Plus(CountId(self.id("c")?), self.number()?),
                    other => return Err(format!("expected context, target, sum or plus, found `{other}`")),
                };
                self.expect("bound")?;
                tables.counts.push(Count { kind, bound: self.number()? });
            }
            other => return Err(format!("expected a table, a node or an output, found `{other}`")),
        }
        Ok(())
    }

    fn place(&mut self, prefix: &str, next: usize) -> Result<(), String> {
        let found = self.id(prefix)?;
        if found as usize == next { Ok(()) } else { Err(format!("expected {prefix}{next}, found {prefix}{found}")) }
    }

    fn slot_kind(&mut self) -> Result<SlotKind, String> {
        Ok(match self.word() {
            "trained" => SlotKind::Trained {
                network: if self.rest.trim_start().starts_with(char::is_numeric) { self.number()? } else { 0 },
                decay: self.eat("decay"),
            },
            "average" => SlotKind::Average { of: SlotId(self.id("s")?), momentum: ScalarId(self.id("n")?) },
            "frozen" => SlotKind::Frozen,
            "unused" => SlotKind::Unused,
            "buffer" => SlotKind::Buffer,
            "moment" => SlotKind::Moment { of: SlotId(self.id("s")?), name: self.string()? },
            "gradient" => SlotKind::Gradient { of: SlotId(self.id("s")?) },
            other => return Err(format!("expected a kind of slot, found `{other}`")),
        })
    }

    fn video(&mut self) -> Result<VideoSpec, String> {
        let name = self.string()?;
        self.expect("frames")?;
        let frames = self.number()?;
        let pace = if self.eat("rate") {
            Pace::Rate(self.number()?)
        } else {
            self.expect("every")?;
            Pace::Every(self.number()?)
        };
        self.expect("size")?;
        let size = self.number()?;
        let crop = if self.eat("crop") { Some((self.number()?, self.number()?)) } else { None };
        let aspect = if self.eat("aspect") { Some((self.number()?, self.number()?)) } else { None };
        Ok(VideoSpec { name, frames, pace, size, crop, aspect, flip: self.eat("flip") })
    }

    // ---- nodes

    fn output(&mut self, graph: &mut Graph, nodes: &BTreeMap<usize, NodeIndex>) -> Result<(), String> {
        let name = self.string()?;
        self.expect("=")?;
        let v = self.value(nodes)?;
        graph.outputs.push((name, v));
        Ok(())
    }

    fn value(&mut self, nodes: &BTreeMap<usize, NodeIndex>) -> Result<Value, String> {
        self.expect("%")?;
        let number: usize = self.digits()?;
        let port = if self.rest.starts_with('.') {
            self.rest = &self.rest[1..];
            self.digits()? as u8
        } else {
            0
        };
        let node = nodes.get(&number).ok_or(format!("%{number} does not stand before its user"))?;
        Ok(Value { node: *node, port })
    }

    fn digits(&mut self) -> Result<usize, String> {
        let digits = self.take(|c| c.is_ascii_digit());
        digits.parse().map_err(|_| self.wrong("a number"))
    }

    fn node(&mut self, graph: &mut Graph, nodes: &mut BTreeMap<usize, NodeIndex>) -> Result<(), String> {
        self.expect("%")?;
        let number = self.digits()?;
        self.expect(":")?;
        let mut types = vec![self.ty()?];
        while self.eat("|") {
            types.push(self.ty()?);
        }
        self.expect("=")?;
        let name = self.word();
        let braces = self.eat("{");
        let op = self.op(name)?;
        if braces {
            self.expect("}")?;
        }
        let mut inputs = vec![];
        while self.rest.trim_start().starts_with('%') {
            inputs.push(self.value(nodes)?);
            if !self.eat(",") {
                break;
            }
        }
        let place = if self.eat("#") { std::mem::take(&mut self.rest).trim() } else { "" };
        let v = graph.add(op, &inputs, types, None, &place.into());
        match nodes.insert(number, v.node) {
            None => Ok(()),
            Some(_) => Err(format!("%{number} stands twice")),
        }
    }

    fn ty(&mut self) -> Result<Type, String> {
        let all = [DType::F64, DType::F32, DType::Bf16, DType::I32, DType::Bool];
        let word = self.word();
        let dtype = all.into_iter().find(|d| d.name() == word).ok_or(format!("no element type `{word}`"))?;
        let outer = match self.word() {
            "one" => Outer::One,
            "clips" => Outer::Clips,
            other => match other.strip_prefix("segments").and_then(|n| n.parse().ok()) {
                Some(n) => Outer::Segments(SetId(n)),
                None => return Err(format!("expected one, clips or segments0, found `{other}`")),
            },
        };
        let dims = self.list(|c| {
            let before = c.rest;
            let name = c.word();
            if c.eat("=") {
                return Ok(Dim::new(c.extent()?, name));
            }
            c.rest = before;
            Ok(Dim::new(c.extent()?, ""))
        })?;
        Ok(Type::new(dtype, outer, dims))
    }

    fn extent(&mut self) -> Result<Extent, String> {
        if self.eat("c") { Ok(Extent::Counted(CountId(self.number()?))) } else { Ok(Extent::Static(self.number()?)) }
    }

    /// An attribute's name is optional; what stands between attributes is a comma.
    fn attribute(&mut self, name: &str) {
        self.eat(",");
        let before = self.rest;
        if self.word() != name || !self.eat("=") {
            self.rest = before;
        }
    }

    fn axis(&mut self) -> Result<usize, String> {
        self.attribute("axis");
        self.number()
    }

    fn slot(&mut self) -> Result<SlotId, String> {
        self.eat(",");
        Ok(SlotId(self.id("s")?))
    }

    fn named<T: Copy>(&mut self, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
        let word = self.word();
        let known: Vec<&str> = all.iter().map(|t| name(*t)).collect();
        all.iter()
            .find(|t| name(**t) == word)
            .copied()
            .ok_or_else(|| format!("expected one of {}, found `{word}`", known.join(", ")))
    }

    fn float(&mut self, name: &str) -> Result<f64, String> {
        self.attribute(name);
        self.number()
    }

    fn op(&mut self, name: &str) -> Result<Op, String> {
        if let Some(u) = UNARY.iter().find(|u| unary_name(**u) == name) {
            return Ok(Op::Unary(*u));
        }
        if let Some(b) = BINARY.iter().find(|b| binary_name(**b) == name) {
            return Ok(Op::Binary(*b));
        }
        Ok(match name {
            "read" => Op::Read(self.slot()?),
            "input" => Op::Input(InputId(self.id("i")?)),
            "scalar" => Op::Scalar(ScalarId(self.id("n")?)),
            "constant" => Op::Constant(self.number()?),
            "iota" => Op::Iota,
            "index" => {
                let set = SetId(self.id("set")?);
                self.expect(",")?;
                let both = [Which::Context, Which::Target];
                Op::Index { set, which: self.named(&both, super::print::which_name)? }
            }
            "strategy" => Op::Strategy(SetId(self.id("set")?)),
            "size" => Op::Size(self.list(Self::extent)?),
            "draw" => {
                let dist = self.named(&DISTS, dist_name)?;
                self.attribute("site");
                Op::Draw { dist, site: self.string()? }
            }
            "select" => Op::Select,
            "cast" => Op::Cast,
            "stop" => Op::Stop,
            "arrange" => {
                self.attribute("from");
                Op::Arrange { from: self.list(|c| if c.eat("_") { Ok(None) } else { c.number().map(Some) })? }
            }
            "reshape" => Op::Reshape,
            "slice" => {
                let axis = self.axis()?;
                self.attribute("start");
                Op::Slice { axis, start: self.list(Self::extent)? }
            }
            "pad" => {
                let axis = self.axis()?;
                self.attribute("before");
                Op::Pad { axis, before: self.list(Self::extent)? }
            }
            "concat" => Op::Concat { axis: self.axis()? },
            "gather" | "scatter_add" => {
                let axis = self.axis()?;
                self.attribute("shared");
                let shared = self.number()?;
                if name == "gather" { Op::Gather { axis, shared } } else { Op::ScatterAdd { axis, shared } }
            }
            "one_hot" => Op::OneHot,
            "reduce" => {
                let op = self.named(&REDUCE, reduce_name)?;
                self.attribute("axes");
                Op::Reduce { op, axes: self.list(Self::number)? }
            }
            "argmax" => Op::Argmax { axis: self.axis()? },
            "fold" => Op::Fold { mean: self.named(&[false, true], |m| if m { "mean" } else { "sum" })? },
            "einsum" => {
                let a = self.take(|c| c.is_ascii_alphabetic()).into();
                self.expect(",")?;
                let b = self.take(|c| c.is_ascii_alphabetic()).into();
                self.expect("->")?;
                Op::Einsum { a, b, out: self.take(|c| c.is_ascii_alphabetic()).into() }
            }
            "accumulate" => Op::Accumulate(self.slot()?),
            "store" => Op::Store(self.slot()?),
            "adamw" => Op::Adamw { weight: self.slot()?, first: self.slot()?, second: self.slot()? },
            "sgd" => {
                let weight = self.slot()?;
                let more = self.rest.trim_start().starts_with(',');
                Op::Sgd { weight, velocity: if more { Some(self.slot()?) } else { None } }
            }
            "ema" => Op::Ema(self.slot()?),
            "linear" => Op::Linear,
            "layer_norm" => Op::LayerNorm { eps: self.float("eps")? },
            "layer_norm_grad" => Op::LayerNormGrad { eps: self.float("eps")? },
            "softmax" => Op::Softmax,
            "softmax_grad" => Op::SoftmaxGrad,
            "attention" => Op::Attention { scale: self.float("scale")? },
            "attention_grad" => Op::AttentionGrad { scale: self.float("scale")? },
            "gelu" => Op::Gelu,
            "gelu_grad" => Op::GeluGrad,
            "patches" => {
                let mut size = |name| {
                    self.attribute(name);
                    self.number()
                };
                Op::Patches { tube: size("tube")?, dy: size("dy")?, dx: size("dx")? }
            }
            other => return Err(format!("no op is called `{other}`")),
        })
    }
}

/// All functions of one input.
pub const UNARY: [UnaryOp; 14] = [
    UnaryOp::Neg,
    UnaryOp::Exp,
    UnaryOp::Log,
    UnaryOp::Sqrt,
    UnaryOp::Abs,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tanh,
    UnaryOp::Erf,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Round,
    UnaryOp::Sign,
    UnaryOp::Not,
];

/// All functions of two inputs.
pub const BINARY: [BinaryOp; 16] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
    BinaryOp::Pow,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Eq,
    BinaryOp::Ne,
    BinaryOp::Lt,
    BinaryOp::Le,
    BinaryOp::Gt,
    BinaryOp::Ge,
    BinaryOp::And,
    BinaryOp::Or,
];

/// All reductions.
pub const REDUCE: [ReduceOp; 7] =
    [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min, ReduceOp::Any, ReduceOp::All, ReduceOp::Count];

/// All distributions.
pub const DISTS: [Dist; 6] =
    [Dist::Uniform, Dist::Whole, Dist::Normal, Dist::TruncNormal, Dist::Bernoulli, Dist::Permutation];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::print::print_module;

    const EVERYTHING: &str = r#"network 0 "encoder"
scalar n0 "lr" schedule 2
scalar n1 "ema.target" schedule 3 previous
slot s0 "encoder.w" [4, 8] trained 0 decay
slot s1 "encoder.b" [4] trained 0
slot s2 "target.w" [4, 8] average s0 n1
slot s3 "f" [] frozen
slot s4 "u" [2] unused
slot s5 "p" [2] buffer
slot s6 "exp_avg.encoder.w" [4, 8] moment s0 "exp_avg"
slot s7 "grad.encoder.w" [4, 8] gradient s0
input i0 video "clip" frames 4 every 2 size 8 crop 0.3 1.0 aspect 0.75 1.35 flip
input i1 image "im \"x\" # y" frames 1 rate 4.0 size 8
input i2 label 10
mask m0 "masks.0" tokens 64 context [] target [4]
set set0 [0]
count c0 context set0 bound 64
count c1 target set0 bound 64
count c2 sum c0 c1 bound 128
count c3 plus c0 1 bound 65
%0: f32 one [4, 8] = read {s0}   # encoder
%1: f32 one [4] = read {s1}
%2: f32 clips [frame=4, y=8, x=8, channel=3] = input {i0}
%3: f64 one [] = scalar {n0}
%4: f64 one [] = constant {0.1}
%5: f64 one [] = constant {-1e-300}
%6: f64 one [] = constant {inf}
%7: i32 one [9] = iota
%8: i32 segments0 [4, target=c1] = index {set0, target}
%9: i32 segments0 [] = strategy {set0}
%10: f64 segments0 [] = size {[c0, 4]}
%11: f64 clips [3] = draw {uniform, site="masks.0/top # \"left\""} %4, %5
%12: f32 segments0 [context=c0, dim=8] = arrange {from=[_, 0]} %1   # a.b.0
%13: f32 segments0 [context=c0, out=4] = linear %12, %0, %1
%14: f32 segments0 [c2, 4] = pad {axis=0, before=[c1]} %13
%15: f32 segments0 [c0, 4] = slice {axis=0, start=[c1, 0]} %14
%16: f32 segments0 [c0] = reduce {mean, axes=[1]} %15
%17: f32 one [4, 8] = einsum {ab,ac->bc} %13, %12
%18: f32 segments0 [c0, 8] | f32 one [8] | f32 one [8] = layer_norm_grad {eps=1e-6} %12, %12, %1
%19: f32 one [8] = stop %18.1
%20: f32 one [4, 8] = accumulate {s7} %17
%21: f32 clips [32, 96] = patches {tube=1, dy=4, dx=8} %2
%22: f32 one [] = fold {sum} %16
%23: f32 one [4, 8] = sgd {s0, s6} %17, %22, %22, %22, %22
%24: f32 one [4, 8] = sgd {s0} %17, %22, %22, %22, %22
output "loss" = %22
output "grad \"w\"" = %18.2
"#;

    #[test]
    fn text_reads_back() {
        let (tables, graph) = parse_module(EVERYTHING).unwrap();
        assert_eq!(print_module(&tables, &graph), EVERYTHING);
    }

    #[test]
    fn every_small_op_reads_back() {
        let names = UNARY.map(unary_name).into_iter().chain(BINARY.map(binary_name));
        for name in names.chain(["select", "cast", "gelu", "softmax", "one_hot"]) {
            let text = format!("%0: f32 one [] = constant {{0.5}}\n%1: f32 one [] = {name} %0, %0\n");
            let (tables, graph) = parse_module(&text).unwrap();
            assert_eq!(print_module(&tables, &graph), text);
        }
        for op in REDUCE.map(reduce_name) {
            let text = format!("%0: f32 one [2] = iota\n%1: f32 one [] = reduce {{{op}, axes=[0]}} %0\n");
            let (tables, graph) = parse_module(&text).unwrap();
            assert_eq!(print_module(&tables, &graph), text);
        }
    }

    #[test]
    fn written_by_hand() {
        let text = "// free numbers and bare attributes\nslot s0 \"w\" [2] trained decay\n\n%7: f32 one [2] = read {s0}\n%3: f32 one [] = reduce {sum, [0]} %7\noutput \"y\" = %3";
        let (tables, graph) = parse_module(text).unwrap();
        assert!(print_module(&tables, &graph).contains("%1: f32 one [] = reduce {sum, axes=[0]} %0"));
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, says) in [
            ("%0: f32 one [] = frobnicate", "no op is called `frobnicate`"),
            ("%0: f32 one [] = neg %1", "%1 does not stand before its user"),
            ("%0: f32 here [] = constant {1}", "expected one, clips or segments0"),
            ("slot s1 \"w\" [] frozen", "expected s0, found s1"),
            ("%0: f32 one [] = constant {1} %", "expected a number"),
            ("%0: f32 one [] = constant {x}", "expected a number, found `x}`"),
        ] {
            let error = parse_module(&format!("\n{text}")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(says), "{error}");
        }
    }
}
