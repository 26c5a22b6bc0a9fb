//! Result types of an op from the types of its inputs.
//!
//! Where a type follows from the inputs it is computed. Ops whose type is partly the node's own choice take it from
//! `hint`, the type of the node's first result, and check it. A choice that the hint may always make is the element type
//! among f32 and bf16: such a node reads what it is given, computes wider, and rounds its result. f64 stays f64 unless a
//! `cast` says otherwise. Names of dims are carried over for printing only.

use super::extent::{Total, fits, larger, outer_of};
use super::graph::{CountKind, Dim, Extent, InputSpec, Outer, Slot, SlotId, Tables, Type, index_extra};
use super::op::{BinaryOp, DType, Dist, Op, ReduceOp, Types, UnaryOp, Which};
use super::print::show_type;

/// Result types of `op`, one a port. The error says what does not fit.
pub fn infer(tables: &Tables, op: &Op, inputs: &[&Type], hint: Option<&Type>) -> Result<Types, String> {
    let (least, most) = arity(op);
    if inputs.len() < least || inputs.len() > most {
        let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
        return Err(format!("expected {range} inputs, found {}", inputs.len()));
    }
    let mut types = Rule { tables, inputs, hint }.types(op)?;
    if let Some(h) = hint
        && types[0] == *h
    {
        types[0] = h.clone();
    }
    for t in &types {
        let need = outer_of(tables, &t.extents());
        let counted = t.extents().iter().all(|e| fits(outer_of(tables, &[*e]), need));
        if !counted || !(need == Outer::One || need == t.outer) {
            return Err(format!("counted dims of `{}` are not those of its segments", show_type(t)));
        }
    }
    Ok(types)
}

/// Least and largest number of inputs.
pub fn arity(op: &Op) -> (usize, usize) {
    match op {
        Op::Read(_) | Op::Input(_) | Op::Scalar(_) | Op::Constant(_) | Op::Iota => (0, 0),
        Op::Index { .. } | Op::Strategy(_) | Op::Size(_) => (0, 0),
        Op::Draw { dist, .. } => match dist {
            Dist::Uniform | Dist::Whole => (2, 2),
            Dist::Normal | Dist::TruncNormal | Dist::Bernoulli => (1, 1),
            Dist::Permutation => (0, 0),
        },
        Op::Unary(_) | Op::Cast | Op::Stop | Op::Arrange { .. } | Op::Reshape => (1, 1),
        Op::Slice { .. } | Op::Pad { .. } | Op::OneHot | Op::Reduce { .. } | Op::Argmax { .. } => (1, 1),
        Op::Fold { .. } | Op::Accumulate(_) | Op::Store(_) | Op::Softmax | Op::Gelu => (1, 1),
        Op::Binary(_) | Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Einsum { .. } => (2, 2),
        Op::Ema(_) | Op::SoftmaxGrad | Op::GeluGrad => (2, 2),
        Op::Select | Op::Attention { .. } => (3, 3),
        Op::Concat { .. } => (1, u16::MAX as usize),
        Op::Adamw { .. } => (8, 8),
        Op::Sgd { .. } => (5, 5),
        Op::Linear | Op::LayerNormGrad { .. } => (2, 3),
        Op::LayerNorm { .. } => (1, 3),
        Op::AttentionGrad { .. } => (5, 5),
        Op::Patches { .. } => (1, 2),
    }
}

struct Rule<'a> {
    tables: &'a Tables,
    inputs: &'a [&'a Type],
    hint: Option<&'a Type>,
}

impl Rule<'_> {
    fn types(&self, op: &Op) -> Result<Types, String> {
        Ok(vec![match op {
            Op::Read(s) => self.stored(*s)?,
            Op::Input(i) => match self.tables.inputs.get(i.0 as usize).ok_or(format!("no input {}", i.0))? {
                InputSpec::Video(v) => clip(&[(v.frames, "frame"), (v.size, "y"), (v.size, "x"), (3, "channel")]),
                InputSpec::Image(v) => clip(&[(v.size, "y"), (v.size, "x"), (3, "channel")]),
                InputSpec::Label { .. } => Type::new(DType::I32, Outer::Clips, vec![]),
            },
            Op::Scalar(s) => {
                self.tables.scalars.get(s.0 as usize).ok_or(format!("no scalar {}", s.0))?;
                Type::scalar(self.leaf(DType::F64))
            }
            Op::Constant(_) => Type::scalar(self.leaf(DType::F64)),
            Op::Iota => {
                let h = self.own()?;
                if h.dims.len() != 1 || h.outer != outer_of(self.tables, &h.extents()) {
                    return Err("expected one dim, and blocks only as its extent needs them".into());
                }
                h.clone()
            }
            Op::Index { set, which } => self.index(*set, *which)?,
            Op::Strategy(set) => {
                self.set(*set)?;
                Type::new(self.leaf(DType::I32), Outer::Segments(*set), vec![])
            }
            Op::Size(extents) => Type::new(self.leaf(DType::F64), outer_of(self.tables, extents), vec![]),
            Op::Draw { .. } => self.draw()?,
            Op::Unary(u) => self.unary(*u)?,
            Op::Binary(b) => self.binary(*b)?,
            Op::Select => {
                let (c, x, y) = (self.inputs[0], self.inputs[1], self.inputs[2]);
                self.same(x, y)?;
                if *c != x.with_dtype(DType::Bool) {
                    return Err(format!("expected a bool condition of the same dims, found `{}`", self.show(c)));
                }
                self.round(x.clone())
            }
            Op::Cast => self.inputs[0].with_dtype(self.own()?.dtype),
            Op::Stop => self.inputs[0].clone(),
            Op::Arrange { from } => self.arrange(from)?,
            Op::Reshape => self.reshape()?,
            Op::Slice { axis, start } => {
                let (x, h) = (self.inputs[0], self.own_dim(*axis)?);
                let mut part = start.clone();
                part.push(h.dims[*axis].extent);
                self.holds(x.dims[*axis].extent, &part)?;
                h
            }
            Op::Pad { axis, before } => {
                let (x, h) = (self.inputs[0], self.own_dim(*axis)?);
                let mut part = before.clone();
                part.push(x.dims[*axis].extent);
                self.holds(h.dims[*axis].extent, &part)?;
                h
            }
            Op::Concat { axis } => self.concat(*axis)?,
            Op::Gather { axis, shared } => self.gathered(self.inputs[0], self.inputs[1], *axis, *shared)?,
            Op::ScatterAdd { axis, shared } => {
                let (g, index, h) = (self.inputs[0], self.inputs[1], self.own()?);
                let t = self.gathered(h, index, *axis, *shared)?;
                if t.dims != g.dims || !fits(t.outer, g.outer) {
                    return Err(format!("expected rows `{}`, found `{}`", self.show(&t), self.show(g)));
                }
                h.with_dtype(self.float(g.dtype)?)
            }
            Op::OneHot => {
                let (x, h) = (self.inputs[0], self.own()?);
                match h.dims.split_last() {
                    Some((_, rest)) if rest == x.dims && h.outer == x.outer && x.dtype != DType::Bool => h.clone(),
                    Some(_) | None => return Err("expected the dims of the numbers and one more".into()),
                }
            }
            Op::Reduce { op, axes } => self.reduce(*op, axes)?,
            Op::Argmax { axis } => {
                let mut t = self.inputs[0].with_dtype(DType::I32);
                self.axis(&t, *axis)?;
                t.dims.remove(*axis);
                t
            }
            Op::Fold { .. } => {
                let (x, h) = (self.inputs[0], self.own()?);
                if !fits(h.outer, x.outer) || h.outer == x.outer {
                    return Err(format!("expected fewer blocks than `{}` has", self.show(x)));
                }
                Type { outer: h.outer, ..x.with_dtype(self.float(x.dtype)?) }
            }
            Op::Einsum { a, b, out } => self.einsum(a, b, out)?,
            Op::Accumulate(s) | Op::Store(s) => self.updated(*s, self.inputs)?,
            Op::Adamw { weight, first, second } => {
                self.alike(*weight, *first)?;
                self.alike(*weight, *second)?;
                self.updated(*weight, self.inputs)?
            }
            Op::Sgd { weight, velocity } => {
                if let Some(v) = velocity {
                    self.alike(*weight, *v)?;
                }
                self.updated(*weight, self.inputs)?
            }
            Op::Ema(s) => self.updated(*s, self.inputs)?,
            Op::Linear => self.linear()?,
            Op::LayerNorm { .. } => {
                let x = self.inputs[0];
                self.float(x.dtype)?;
                if self.inputs.len() == 2 {
                    return Err("expected both weight and bias, or neither".into());
                }
                self.inputs[1..].iter().try_for_each(|w| self.last_dim(x, w))?;
                self.round(x.clone())
            }
            Op::LayerNormGrad { .. } => {
                let (x, g) = (self.inputs[0], self.inputs[1]);
                self.fit(x, g)?;
                let dx = self.round(x.clone());
                return match self.inputs.get(2) {
                    None => Ok(vec![dx]),
                    Some(w) => {
                        self.last_dim(x, w)?;
                        Ok(vec![dx, (*w).clone(), (*w).clone()])
                    }
                };
            }
            Op::Softmax => {
                self.axis(self.inputs[0], 0)?;
                self.float(self.inputs[0].dtype)?;
                self.round(self.inputs[0].clone())
            }
            Op::SoftmaxGrad | Op::GeluGrad => {
                self.fit(self.inputs[0], self.inputs[1])?;
                self.round(self.inputs[0].clone())
            }
            Op::Attention { .. } => self.attention()?,
            Op::AttentionGrad { .. } => {
                let out = self.attention()?;
                self.fit(self.inputs[3], &out)?;
                self.fit(self.inputs[4], &out)?;
                let dq = self.round(self.inputs[0].clone());
                return Ok(vec![dq.clone(), self.inputs[1].with_dtype(dq.dtype), self.inputs[2].with_dtype(dq.dtype)]);
            }
            Op::Gelu => {
                self.float(self.inputs[0].dtype)?;
                self.round(self.inputs[0].clone())
            }
            Op::Patches { tube, dy, dx } => self.patches([*tube, *dy, *dx])?,
        }])
    }

    // ---- helpers: what the node chose

    fn own(&self) -> Result<&Type, String> {
        self.hint.ok_or_else(|| "its type must be given".into())
    }

    fn leaf(&self, default: DType) -> DType {
        self.hint.map_or(default, |h| h.dtype)
    }

    /// The node's own extent along `axis`; everything else is the input's.
    fn own_dim(&self, axis: usize) -> Result<Type, String> {
        let (mut t, h) = (self.inputs[0].clone(), self.own()?);
        self.axis(&t, axis)?;
        self.axis(h, axis)?;
        t.dims[axis] = h.dims[axis].clone();
        Ok(t)
    }

    /// `default`, or f32 and bf16 as the hint says.
    fn rounded(&self, default: DType) -> DType {
        let small = |d| matches!(d, DType::F32 | DType::Bf16);
        match self.hint {
            Some(h) if small(h.dtype) && small(default) => h.dtype,
            Some(_) | None => default,
        }
    }

    fn round(&self, t: Type) -> Type {
        let dtype = self.rounded(t.dtype);
        Type { dtype, ..t }
    }

    fn float(&self, dtype: DType) -> Result<DType, String> {
        match dtype {
            DType::F64 | DType::F32 | DType::Bf16 => Ok(self.rounded(dtype)),
            DType::I32 | DType::Bool => Err(format!("expected floating-point elements, found {}", dtype.name())),
        }
    }

    // ---- helpers: what must hold

    fn show(&self, t: &Type) -> String {
        show_type(t)
    }

    fn same(&self, a: &Type, b: &Type) -> Result<(), String> {
        if a == b {
            Ok(())
        } else {
            Err(format!("expected equal types, found `{}` and `{}`", self.show(a), self.show(b)))
        }
    }

    /// Equal dims and blocks, and floating-point elements that mix.
    fn fit(&self, a: &Type, b: &Type) -> Result<(), String> {
        self.mix(&[a, b])?;
        self.same(a, &b.with_dtype(a.dtype))
    }

    /// f32 and bf16 mix; f64 only with itself. The result is the default element type.
    fn mix(&self, types: &[&Type]) -> Result<DType, String> {
        let mut dtype = self.float(types[0].dtype).map(|_| types[0].dtype)?;
        for t in types {
            self.float(t.dtype)?;
            if t.dtype != dtype {
                if t.dtype == DType::F64 || dtype == DType::F64 {
                    return Err("expected all elements f64, or none".into());
                }
                dtype = DType::F32;
            }
        }
        Ok(dtype)
    }

    fn axis(&self, t: &Type, axis: usize) -> Result<(), String> {
        if axis < t.dims.len() { Ok(()) } else { Err(format!("`{}` has no dim {axis}", self.show(t))) }
    }

    fn holds(&self, whole: Extent, parts: &[Extent]) -> Result<(), String> {
        let (whole, part) = (Total::of(self.tables, &[whole]), Total::of(self.tables, parts));
        whole.minus(&part).map(|_| ()).ok_or_else(|| "the part does not lie inside the whole".into())
    }

    fn set(&self, set: super::graph::SetId) -> Result<(), String> {
        self.tables.sets.get(set.0 as usize).map(|_| ()).ok_or(format!("no set {}", set.0))
    }

    fn slot(&self, slot: SlotId) -> Result<&Slot, String> {
        self.tables.slots.get(slot.0 as usize).ok_or(format!("no slot {}", slot.0))
    }

    fn stored(&self, slot: SlotId) -> Result<Type, String> {
        let dims = self.slot(slot)?.shape.iter().map(|n| Dim::fixed(*n, "")).collect();
        Ok(Type::new(DType::F32, Outer::One, dims))
    }

    fn alike(&self, a: SlotId, b: SlotId) -> Result<(), String> {
        if self.slot(a)?.shape == self.slot(b)?.shape { Ok(()) } else { Err("expected slots of one shape".into()) }
    }

    /// An update of a slot: the first input has the slot's dims, the others are numbers.
    fn updated(&self, slot: SlotId, inputs: &[&Type]) -> Result<Type, String> {
        let t = self.stored(slot)?;
        if inputs[0].extents() != t.extents() || inputs[0].outer != Outer::One {
            return Err(format!("expected the slot's dims `{}`, found `{}`", self.show(&t), self.show(inputs[0])));
        }
        match inputs[1..].iter().find(|n| !n.dims.is_empty() || n.outer != Outer::One) {
            None => Ok(t),
            Some(n) => Err(format!("expected a number for the step, found `{}`", self.show(n))),
        }
    }

    /// `w` is as long as x's last dim, one for the step.
    fn last_dim(&self, x: &Type, w: &Type) -> Result<(), String> {
        let last = x.dims.last().map(|d| d.extent);
        if w.outer == Outer::One && w.dims.len() == 1 && Some(w.dims[0].extent) == last {
            return Ok(());
        }
        Err(format!("expected a vector as long as the last dim of `{}`, found `{}`", self.show(x), self.show(w)))
    }

    // ---- rules that take more than a line

    fn index(&self, set: super::graph::SetId, which: Which) -> Result<Type, String> {
        self.set(set)?;
        let kind = match which {
            Which::Context => CountKind::Context(set),
            Which::Target => CountKind::Target(set),
        };
        let count = self.tables.counts.iter().position(|c| c.kind == kind).ok_or("no count for the index set")?;
        let mut dims: Vec<Dim> = index_extra(self.tables, set, which).iter().map(|n| Dim::fixed(*n, "")).collect();
        let name = if which == Which::Context { "context" } else { "target" };
        dims.push(Dim::new(Extent::Counted(super::graph::CountId(count as u32)), name));
        Ok(Type::new(DType::I32, Outer::Segments(set), dims))
    }

    fn draw(&self) -> Result<Type, String> {
        let h = self.own()?;
        if !matches!(h.outer, Outer::One | Outer::Clips) {
            return Err("a draw is one for the step or one a clip".into());
        }
        match self.inputs.iter().find(|p| !p.dims.is_empty() || !fits(p.outer, h.outer)) {
            None => Ok(h.clone()),
            Some(p) => Err(format!("expected a number as parameter, found `{}`", self.show(p))),
        }
    }

    fn unary(&self, op: UnaryOp) -> Result<Type, String> {
        let x = self.inputs[0];
        match op {
            UnaryOp::Not if x.dtype == DType::Bool => return Ok(x.clone()),
            UnaryOp::Not => return Err(format!("expected bool elements, found {}", x.dtype.name())),
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign if x.dtype == DType::I32 => return Ok(x.clone()),
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => {}
            UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh => {}
            UnaryOp::Erf | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => {}
        }
        Ok(x.with_dtype(self.float(x.dtype)?))
    }

    fn binary(&self, op: BinaryOp) -> Result<Type, String> {
        let (x, y) = (self.inputs[0], self.inputs[1]);
        self.same(x, y)?;
        let bool_in = x.dtype == DType::Bool;
        match op {
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Rem
            | BinaryOp::Pow
            | BinaryOp::Min
            | BinaryOp::Max
                if !bool_in =>
            {
                Ok(self.round(x.clone()))
            }
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge if !bool_in => Ok(x.with_dtype(DType::Bool)),
            BinaryOp::Eq | BinaryOp::Ne => Ok(x.with_dtype(DType::Bool)),
            BinaryOp::And | BinaryOp::Or if bool_in => Ok(x.clone()),
            BinaryOp::And | BinaryOp::Or => Err(format!("expected bool elements, found {}", x.dtype.name())),
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Rem
            | BinaryOp::Pow
            | BinaryOp::Min
            | BinaryOp::Max
            | BinaryOp::Lt
            | BinaryOp::Le
            | BinaryOp::Gt
            | BinaryOp::Ge => Err("expected numbers, found bool".into()),
        }
    }

    fn arrange(&self, from: &[Option<usize>]) -> Result<Type, String> {
        let (x, h) = (self.inputs[0], self.own()?);
        let mut used: Vec<usize> = from.iter().flatten().copied().collect();
        used.sort_unstable();
        if used != (0..x.dims.len()).collect::<Vec<_>>() || from.len() != h.dims.len() {
            return Err("expected every dim of the input once".into());
        }
        let fitting = from.iter().zip(&h.dims).all(|(f, d)| f.is_none_or(|f| x.dims[f] == *d));
        if !fitting || !fits(x.outer, h.outer) {
            return Err(format!("cannot arrange `{}` as `{}`", self.show(x), self.show(h)));
        }
        Ok(h.with_dtype(x.dtype))
    }

    fn reshape(&self) -> Result<Type, String> {
        let (x, h) = (self.inputs[0], self.own()?);
        if elements(x) != elements(h) || x.outer != h.outer {
            return Err(format!("`{}` and `{}` differ in size", self.show(x), self.show(h)));
        }
        Ok(h.with_dtype(x.dtype))
    }

    fn concat(&self, axis: usize) -> Result<Type, String> {
        let mut t = self.inputs[0].clone();
        self.axis(&t, axis)?;
        for x in self.inputs {
            self.axis(x, axis)?;
            let mut other = (*x).clone();
            other.dims[axis] = t.dims[axis].clone();
            self.same(&t, &other)?;
        }
        let parts: Vec<Extent> = self.inputs.iter().map(|x| x.dims[axis].extent).collect();
        let total = Total::of(self.tables, &parts);
        let hinted = self.hint.filter(|h| h.dims.len() == t.dims.len()).map(|h| h.dims[axis].clone());
        match hinted {
            Some(d) if Total::of(self.tables, &[d.extent]) == total => t.dims[axis] = d,
            Some(_) | None => t.dims[axis].extent = total.extent(self.tables).ok_or("no count for the joined dim")?,
        }
        Ok(t)
    }

    fn gathered(&self, x: &Type, index: &Type, axis: usize, shared: usize) -> Result<Type, String> {
        self.axis(x, axis)?;
        if index.dtype != DType::I32 {
            return Err(format!("expected an index of i32, found {}", index.dtype.name()));
        }
        if shared > axis || shared > index.dims.len() || x.dims[..shared] != index.dims[..shared] {
            return Err(format!("`{}` and `{}` do not share dims", self.show(x), self.show(index)));
        }
        let outer = larger(x.outer, index.outer).ok_or("segments of different sets")?;
        let mut dims = x.dims.clone();
        dims.splice(axis..=axis, index.dims[shared..].iter().cloned());
        Ok(Type::new(x.dtype, outer, dims))
    }

    fn reduce(&self, op: ReduceOp, axes: &[usize]) -> Result<Type, String> {
        let x = self.inputs[0];
        if !axes.windows(2).all(|w| w[0] < w[1]) || axes.last().is_some_and(|a| *a >= x.dims.len()) {
            return Err(format!("expected ascending dims of `{}`", self.show(x)));
        }
        let dtype = match op {
            ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min if x.dtype != DType::Bool => self.rounded(x.dtype),
            ReduceOp::Mean => self.float(x.dtype)?,
            ReduceOp::Any | ReduceOp::All if x.dtype == DType::Bool => DType::Bool,
            ReduceOp::Count if x.dtype == DType::Bool => self.leaf(DType::F64),
            ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min => return Err("expected numbers, found bool".into()),
            ReduceOp::Any | ReduceOp::All | ReduceOp::Count => {
                return Err(format!("expected bool elements, found {}", x.dtype.name()));
            }
        };
        let dims = x.dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect();
        Ok(Type::new(dtype, x.outer, dims))
    }

    fn einsum(&self, a: &[u8], b: &[u8], out: &[u8]) -> Result<Type, String> {
        let (x, y) = (self.inputs[0], self.inputs[1]);
        if a.len() != x.dims.len() || b.len() != y.dims.len() {
            return Err("expected a label for every dim".into());
        }
        let named: Vec<(u8, &Dim)> = a.iter().copied().zip(&x.dims).chain(b.iter().copied().zip(&y.dims)).collect();
        let find = |l: u8| named.iter().find(|(m, _)| *m == l).map(|(_, d)| *d);
        for (l, d) in &named {
            if find(*l) != Some(d) {
                return Err(format!("label {l} names dims of different size"));
            }
        }
        let twice = |labels: &[u8]| labels.iter().enumerate().any(|(i, l)| labels[..i].contains(l));
        if twice(a) || twice(b) || twice(out) {
            return Err("a label names one dim of a tensor".into());
        }
        let dims: Option<Vec<Dim>> = out.iter().map(|l| find(*l).cloned()).collect();
        let full = larger(x.outer, y.outer).ok_or("segments of different sets")?;
        let outer = self.hint.map_or(full, |h| h.outer);
        if !fits(outer, full) {
            return Err("the result has more blocks than the inputs".into());
        }
        Ok(self.round(Type::new(self.mix(&[x, y])?, outer, dims.ok_or("a label of the result is in no input")?)))
    }

    fn linear(&self) -> Result<Type, String> {
        let (x, w) = (self.inputs[0], self.inputs[1]);
        let dtype = self.mix(self.inputs)?;
        if w.dims.len() != 2 || w.outer != Outer::One || x.dims.last() != Some(&w.dims[1]) {
            return Err(format!("`{}` does not multiply `{}`", self.show(w), self.show(x)));
        }
        if let Some(b) = self.inputs.get(2)
            && (b.dims != w.dims[..1] || b.outer != Outer::One)
        {
            return Err(format!("expected a bias as long as the result, found `{}`", self.show(b)));
        }
        let mut t = self.round(x.with_dtype(if x.dtype == DType::F64 { dtype } else { x.dtype }));
        *t.dims.last_mut().expect("x has a last dim") = w.dims[0].clone();
        Ok(t)
    }

    fn attention(&self) -> Result<Type, String> {
        let (q, k, v) = (self.inputs[0], self.inputs[1], self.inputs[2]);
        self.mix(&[q, k, v])?;
        let fitting = [q, k, v].iter().all(|t| t.dims.len() == 3 && t.outer == q.outer)
            && q.dims[1..] == k.dims[1..]
            && k.dims[..2] == v.dims[..2];
        if !fitting {
            let [q, k, v] = [q, k, v].map(|t| self.show(t));
            return Err(format!("expected [n, h, d], [m, h, d], [m, h, e], found `{q}`, `{k}`, `{v}`"));
        }
        let mut t = self.round(q.clone());
        t.dims[2] = v.dims[2].clone();
        Ok(t)
    }

    fn patches(&self, patch: [usize; 3]) -> Result<Type, String> {
        let x = self.inputs[0];
        let size: Option<Vec<usize>> = x
            .dims
            .iter()
            .map(|d| match d.extent {
                Extent::Static(n) => Some(n),
                Extent::Counted(_) => None,
            })
            .collect();
        let size = size.filter(|s| s.len() == 4).ok_or_else(|| format!("expected a clip, found `{}`", self.show(x)))?;
        if patch.iter().zip(&size).any(|(p, s)| *p == 0 || s % p != 0) {
            return Err(format!("patches do not tile `{}`", self.show(x)));
        }
        let tokens: usize = patch.iter().zip(&size).map(|(p, s)| s / p).product();
        let width = Dim::fixed(size[3] * patch.iter().product::<usize>(), "patch");
        let (outer, rows) = match self.inputs.get(1) {
            None => (x.outer, Dim::fixed(tokens, "token")),
            Some(i) if i.dims.len() == 1 && i.dtype == DType::I32 => {
                (larger(x.outer, i.outer).ok_or("segments of different sets")?, i.dims[0].clone())
            }
            Some(i) => return Err(format!("expected an index of one dim, found `{}`", self.show(i))),
        };
        Ok(Type::new(self.float(x.dtype)?, outer, vec![rows, width]))
    }
}

/// A clip of the caller's.
fn clip(dims: &[(usize, &str)]) -> Type {
    Type::new(DType::F32, Outer::Clips, dims.iter().map(|(n, name)| Dim::fixed(*n, name)).collect())
}

/// Number of elements of a block: the static factor, and the counted factors in ascending order.
fn elements(t: &Type) -> (usize, Vec<super::graph::CountId>) {
    let (mut fixed, mut counted) = (1, vec![]);
    for d in &t.dims {
        match d.extent {
            Extent::Static(n) => fixed *= n,
            Extent::Counted(c) => counted.push(c),
        }
    }
    counted.sort_unstable();
    (fixed, counted)
}
