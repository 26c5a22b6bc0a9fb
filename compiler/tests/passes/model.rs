//! A small V-JEPA step as `build` writes it: what all passes together must make of it.

use vjepac::ir::build::Builder;
use vjepac::ir::graph::{
    Count, CountId, CountKind, Dim, Extent, Graph, InputId, InputSpec, MaskSpec, Outer, Pace, SegmentSet, SetId, Slot,
    SlotId, SlotKind, Tables, Type, Value, VideoSpec,
};
use vjepac::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp, Which};

const DIM: usize = 8;
const HEADS: usize = 2;

/// The step with its tables: the loss of one encoder, one predictor and one target encoder over two masks.
pub fn step() -> (Tables, Graph) {
    let mut tables = Tables {
        inputs: vec![InputSpec::Video(VideoSpec {
            name: "clip".into(),
            frames: 4,
            pace: Pace::Every(1),
            size: 8,
            crop: None,
            aspect: None,
            flip: false,
        })],
        sets: vec![SegmentSet { masks: vec![0, 1] }],
        networks: vec!["encoder".into()],
        ..Tables::default()
    };
    for i in 0..2 {
        let (name, extra) = (format!("masks.{i}"), vec![]);
        tables.masks.push(MaskSpec { name, tokens: 8, target_extra: extra.clone(), context_extra: extra });
    }
    for (kind, bound) in [
        (CountKind::Context(SetId(0)), 8),
        (CountKind::Target(SetId(0)), 8),
        (CountKind::Sum(CountId(0), CountId(1)), 16),
    ] {
        tables.counts.push(Count { kind, bound });
    }
    let mut graph = Graph::default();
    let mut m = Maker { b: Builder::new(&mut graph, &tables), slots: vec![] };
    let loss = m.step();
    let slots = m.slots;
    graph.outputs.push(("loss".into(), loss));
    tables.slots = slots;
    (tables, graph)
}

struct Maker<'a> {
    b: Builder<'a>,
    slots: Vec<Slot>,
}

fn fixed(size: usize, name: &str) -> Dim {
    Dim::fixed(size, name)
}

fn counted(count: u32, name: &str) -> Dim {
    Dim::new(Extent::Counted(CountId(count)), name)
}

impl Maker<'_> {
    /// A stored tensor with its logical dims.
    fn param(&mut self, stored: &[usize], dims: &[Dim]) -> Value {
        let key = format!("w{}", self.slots.len());
        self.slots.push(Slot { key, shape: stored.to_vec(), kind: SlotKind::Trained { network: 0, decay: true } });
        let ty = Type::new(DType::F32, Outer::One, stored.iter().map(|n| fixed(*n, "")).collect());
        let slot = SlotId(self.slots.len() as u32 - 1);
        let read = self.b.graph.add(Op::Read(slot), &[], vec![ty], None, &"model".into());
        self.b.reshape(read, dims.to_vec())
    }

    /// x, whose dims are some of `like`'s at these places, repeated to `like`.
    fn spread(&mut self, x: Value, places: &[usize], like: Value) -> Value {
        let ty = self.b.ty(like);
        let from = (0..ty.dims.len()).map(|j| places.iter().position(|p| *p == j)).collect();
        self.b.arrange(x, from, ty.outer, ty.dims)
    }

    fn number(&mut self, v: f64, like: Value) -> Value {
        let ty = self.b.ty(like);
        self.b.constant(v, &ty)
    }

    fn step(&mut self) -> Value {
        let clip = self.b.input(InputId(0));
        let index = |m: &mut Self, which| m.b.op(Op::Index { set: SetId(0), which }, &[]);
        let (context, target) = (index(self, Which::Context), index(self, Which::Target));
        let z = self.encoder(clip, Some(context));
        let y = self.encoder(clip, None);
        let p = self.predictor(z, context, target);
        let y = self.normalize(y);
        let y = self.b.gather(y, target, 0, 0);
        let y = self.b.stop(y);
        let d = self.b.sub(p, y);
        let d = self.b.unary(UnaryOp::Abs, d);
        let loss = self.b.reduce(ReduceOp::Mean, d, vec![0, 1]);
        let loss = self.b.fold(loss, Outer::Clips, true);
        self.b.fold(loss, Outer::One, true)
    }

    fn encoder(&mut self, clip: Value, keep: Option<Value>) -> Value {
        let cut = [(2, "time"), (2, "tube"), (2, "rows"), (4, "dy"), (2, "cols"), (4, "dx"), (3, "rgb")];
        let cut = self.b.reshape(clip, cut.map(|(n, name)| fixed(n, name)).to_vec());
        let w =
            self.param(&[DIM, 3, 2, 4, 4], &[(DIM, ""), (3, ""), (2, ""), (4, ""), (4, "")].map(|d| fixed(d.0, d.1)));
        let x = self.b.einsum(cut, w, "tarbcdz", "ozabd", "trco");
        let bias = self.param(&[DIM], &[fixed(DIM, "dim")]);
        let bias = self.spread(bias, &[3], x);
        let x = self.b.add(x, bias);
        let x = self.b.reshape(x, vec![fixed(8, "tokens"), fixed(DIM, "dim")]);
        let pos = self.param(&[1, 8, DIM], &[fixed(8, "tokens"), fixed(DIM, "dim")]);
        let pos = self.spread(pos, &[0, 1], x);
        let mut x = self.b.add(x, pos);
        if let Some(keep) = keep {
            x = self.b.gather(x, keep, 0, 0);
        }
        for _ in 0..2 {
            x = self.block(x);
        }
        self.layer_norm(x)
    }

    fn predictor(&mut self, z: Value, context: Value, target: Value) -> Value {
        let z = self.linear(z, &[DIM]);
        let pos = self.param(&[1, 8, DIM], &[fixed(8, "tokens"), fixed(DIM, "dim")]);
        let at_context = self.b.gather(pos, context, 0, 0);
        let have = self.b.add(z, at_context);
        let at_target = self.b.gather(pos, target, 0, 0);
        let query = self.param(&[1, 1, DIM], &[fixed(DIM, "dim")]);
        let query = self.spread(query, &[1], at_target);
        let want = self.b.add(query, at_target);
        let mut x = self.b.concat(&[have, want], 0);
        for _ in 0..2 {
            x = self.block(x);
        }
        let x = self.layer_norm(x);
        let x = self.linear(x, &[DIM]);
        self.b.slice(x, 0, vec![Extent::Counted(CountId(0))], counted(1, "target"))
    }

    fn block(&mut self, x: Value) -> Value {
        let h = self.layer_norm(x);
        let h = self.attention(h);
        let y = self.b.add(x, h);
        let h = self.layer_norm(y);
        let h = self.linear(h, &[4 * DIM]);
        let h = self.gelu(h);
        let h = self.linear(h, &[DIM]);
        self.b.add(y, h)
    }

    /// `dot[..](x, w) + b` over all dims behind the tokens.
    fn linear(&mut self, x: Value, out: &[usize]) -> Value {
        let ins = self.b.ty(x).dims[1..].to_vec();
        let outs: Vec<Dim> = out.iter().map(|n| fixed(*n, "out")).collect();
        let (n_in, n_out) = (DIM.max(self.b.tables.bound(ins[0].extent)), out.iter().product::<usize>());
        let n_in = if ins.len() > 1 { DIM } else { n_in };
        let w = self.param(&[n_out, n_in], &[outs.clone(), ins.clone()].concat());
        let (i, o) = (&"ijk"[..ins.len()], &"opq"[..out.len()]);
        let y = self.b.einsum(x, w, &format!("n{i}"), &format!("{o}{i}"), &format!("n{o}"));
        let b = self.param(&[n_out], &outs);
        let places: Vec<usize> = (1..=out.len()).collect();
        let b = self.spread(b, &places, y);
        self.b.add(y, b)
    }

    fn attention(&mut self, x: Value) -> Value {
        let d = DIM / HEADS;
        let qkv = self.linear(x, &[3, HEADS, d]);
        let part = |m: &mut Self, i: usize| {
            let one = m.b.slice(qkv, 1, vec![Extent::Static(i)], fixed(1, "part"));
            let ty = m.b.ty(qkv);
            m.b.reshape(one, vec![ty.dims[0].clone(), fixed(HEADS, "heads"), fixed(d, "d")])
        };
        let (q, k, v) = (part(self, 0), part(self, 1), part(self, 2));
        let scores = self.b.einsum(q, k, "nhd", "mhd", "nhm");
        let c = self.number(d as f64, scores);
        let root = self.b.unary(UnaryOp::Sqrt, c);
        let scores = self.b.div(scores, root);
        let p = self.softmax(scores, 2);
        let mixed = self.b.einsum(p, v, "nhm", "mhe", "nhe");
        self.linear(mixed, &[DIM])
    }

    fn softmax(&mut self, x: Value, axis: usize) -> Value {
        let rest: Vec<usize> = (0..self.b.ty(x).dims.len()).filter(|j| *j != axis).collect();
        let m = self.b.reduce(ReduceOp::Max, x, vec![axis]);
        let m = self.spread(m, &rest, x);
        let e = self.b.sub(x, m);
        let e = self.b.unary(UnaryOp::Exp, e);
        let sum = self.b.reduce(ReduceOp::Sum, e, vec![axis]);
        let sum = self.spread(sum, &rest, e);
        self.b.div(e, sum)
    }

    fn normalize(&mut self, x: Value) -> Value {
        let centred = |m: &mut Self| {
            let mean = m.b.reduce(ReduceOp::Mean, x, vec![1]);
            let mean = m.spread(mean, &[0], x);
            m.b.sub(x, mean)
        };
        let (d, again) = (centred(self), centred(self));
        let square = self.b.mul(again, again);
        let var = self.b.reduce(ReduceOp::Mean, square, vec![1]);
        let eps = self.number(1e-6, var);
        let root = self.b.add(var, eps);
        let root = self.b.unary(UnaryOp::Sqrt, root);
        let root = self.spread(root, &[0], x);
        self.b.div(d, root)
    }

    fn layer_norm(&mut self, x: Value) -> Value {
        let y = self.normalize(x);
        let w = self.param(&[DIM], &[fixed(DIM, "dim")]);
        let w = self.spread(w, &[1], y);
        let y = self.b.mul(y, w);
        let b = self.param(&[DIM], &[fixed(DIM, "dim")]);
        let b = self.spread(b, &[1], y);
        self.b.add(y, b)
    }

    fn gelu(&mut self, x: Value) -> Value {
        let two = self.number(2.0, x);
        let root = self.b.unary(UnaryOp::Sqrt, two);
        let u = self.b.div(x, root);
        let u = self.b.unary(UnaryOp::Erf, u);
        let one = self.number(1.0, x);
        let u = self.b.add(one, u);
        let y = self.b.binary(BinaryOp::Mul, x, u);
        self.b.div(y, two)
    }
}
