//! Built-in functions.

use std::rc::Rc;

use super::emit::Leaf;
use super::scope::ScopeRef;
use super::value::{Maker, Num, Number, Origin, Role, Tensor, Value, What};
use super::{Elab, Follower, Res};
use crate::diag::Diagnostic;
use crate::ir::graph::Outer;
use crate::ir::op::{BinaryOp, Dist, ReduceOp, UnaryOp};
use crate::model::{AxisId, NodeId, NodeOp};
use crate::source::Span;
use crate::syntax::ast::{Arg, Expr, Op};

impl Elab<'_> {
    /// `name[axes](args)` for a built-in name.
    pub(super) fn call_builtin(
        &mut self,
        name: &'static str,
        axes: Option<&[Rc<Expr>]>,
        args: &[Arg],
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        if let Some(record) = super::builtins::record(name) {
            let maker =
                Maker { what: What::Builtin(record), args: args.into(), scope: scope.clone(), span, changes: vec![] };
            let instance = self.instantiate(maker, None)?;
            return Ok(if record.source { Value::Source(instance) } else { Value::Instance(instance) });
        }
        if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) {
            let d =
                Diagnostic::error("V0108", format!("`{name}` takes no settings by name"), named.span, "not a setting");
            let habit = matches!(&*named.text, "dim" | "axis" | "dims" | "keepdim")
                .then(|| format!("axes go in brackets: `{name}[tokens](x)`"));
            return Err(self.fail(d.maybe_help(habit)));
        }
        let values: Vec<Value> = args.iter().map(|a| self.eval(&a.value, scope)).collect::<Res<_>>()?;
        let at = |i: usize| args.get(i).map_or(span, |a| a.value.span);
        let function = unary(name);
        match (name, &values[..], axes) {
            (_, [v], None) if function.is_some() => self.unary(function.unwrap_or(UnaryOp::Neg), name, v, span),
            ("min", [a, b], None) => self.extreme(BinaryOp::Min, name, a, b, span),
            ("max", [a, b], None) => self.extreme(BinaryOp::Max, name, a, b, span),
            ("stop", [v], None) => match v {
                Value::Num(_) | Value::Schedule(_) | Value::Arrow(_) => Ok(v.clone()),
                v => {
                    let t = self.tensor(v, at(0))?;
                    let node_axes = self.node(t.node).axes.clone();
                    let node = self.emit(NodeOp::Stop, &[t.node], self.outer(&t), node_axes, span);
                    Ok(Value::Tensor(Tensor { node, made: None, ..t }))
                }
            },
            ("sum" | "mean" | "min" | "max" | "any" | "all" | "count" | "var" | "argmax", [v], _) => {
                self.reduction(name, v, axes, scope, at(0), span)
            }
            ("dot", [a, b], Some(items)) => self.dot(a, b, items, scope, span),
            ("dot", [_, _], None) => self.needs_axes(name, "dot[dim](x, y)", span),
            ("unstack", [v], Some([item])) => self.unstack(v, item, scope, span),
            ("stack", _, Some([item])) => self.stack(&values, item, scope, span),
            ("one_hot", [v], Some([item])) => self.one_hot(v, item, scope, span),
            ("spread", [v], Some(items)) => self.spread(v, items, scope, span),
            ("unstack" | "stack" | "one_hot" | "spread", _, None) => {
                self.needs_axes(name, &format!("{name}[axis](x)"), span)
            }
            ("coords", [v], None) => self.coords(v, at(0)),
            ("len", [v], None) => self.length(v, at(0)),
            ("normal", [v], None) => self.distribution(Dist::Normal, name, v, at(0)),
            ("trunc_normal", [v], None) => self.distribution(Dist::TruncNormal, name, v, at(0)),
            ("bernoulli", [v], None) => self.distribution(Dist::Bernoulli, name, v, at(0)),
            ("ema", [v, m], None) => self.ema(v, m, at(0), at(1)),
            ("ema", [_], None) => {
                self.error("V0108", "`ema` needs a momentum", span, "write `ema(block, 0.998 -> 1.0)`")
            }
            ("frozen", [v], None) => match v {
                Value::Instance(i) if i.kind() == Some(crate::syntax::ast::Kind::Block) => {
                    Ok(Value::Instance(self.copy(i, Some(Role::Frozen))))
                }
                Value::List(items) if items.iter().all(|v| matches!(v, Value::Instance(_))) => {
                    let copies = items.iter().map(|v| match v {
                        Value::Instance(i) => Value::Instance(self.copy(i, Some(Role::Frozen))),
                        v => v.clone(),
                    });
                    Ok(Value::List(Rc::new(copies.collect())))
                }
                v => self.error("V0104", format!("`frozen` wraps a block, found {}", v.kind()), at(0), "not a block"),
            },
            _ => {
                let text = format!(
                    "`{name}` cannot be called with {} inputs{}",
                    values.len(),
                    if axes.is_some() { " and these axes" } else { "" }
                );
                self.error("V0108", text, span, "wrong inputs")
            }
        }
    }

    fn needs_axes(&self, name: &str, example: &str, span: Span) -> Res<Value> {
        let d = Diagnostic::error("V0111", format!("`{name}` needs to know which axis"), span, "no axis given");
        Err(self.fail(d.help(format!("write `{example}`"))))
    }

    /// Reductions over named axes, or over everything.
    fn reduction(
        &mut self,
        name: &'static str,
        v: &Value,
        axes: Option<&[Rc<Expr>]>,
        scope: &ScopeRef,
        at: Span,
        span: Span,
    ) -> Res<Value> {
        if axes.is_none() {
            match v {
                Value::List(items) => return self.reduce_list(name, items, at, span),
                Value::Packed(_, t, origin) => return self.reduce_packed(name, t, origin, span),
                Value::Num(_) if matches!(name, "sum" | "mean" | "min" | "max") => return Ok(v.clone()),
                Value::Bool(_) if matches!(name, "any" | "all") => return Ok(v.clone()),
                _ => {}
            }
        }
        if let (Value::List(_) | Value::Packed(..), Some(items)) = (v, axes) {
            let item = items.first().map_or(span, |i| i.span);
            let d = Diagnostic::error(
                "V0204",
                format!("`{name}[...]` needs a tensor, found {}", v.kind()),
                item,
                "a list has no axes",
            );
            return Err(self.fail(d.help(format!("write `{name}(...)` to combine the items"))));
        }
        let t = self.tensor(v, at)?;
        let over = match axes {
            Some(items) => self.listed_axes(items, &t, scope)?,
            None => t.axes.clone(),
        };
        if let Some(op) = reduce_op(name) {
            return Ok(Value::Tensor(self.reduce(op, &t, &over, span)));
        }
        if name == "argmax" {
            let [axis] = over[..] else {
                return self.error(
                    "V0204",
                    "`argmax` works along one axis",
                    span,
                    format!("this has {}", self.show(&t)),
                );
            };
            let keep = |axes: &[AxisId]| -> Vec<AxisId> { axes.iter().copied().filter(|a| *a != axis).collect() };
            let node_axes = keep(&self.node(t.node).axes);
            let node = self.emit(NodeOp::Argmax(axis), &[t.node], self.outer(&t), node_axes, span);
            return Ok(Value::Tensor(Tensor {
                node,
                axes: keep(&t.axes),
                loops: t.loops.clone(),
                of: None,
                made: None,
            }));
        }
        // var = mean((x - mean(x)) ^ 2), biased
        let mean = self.reduce(ReduceOp::Mean, &t, &over, span);
        let centred = self.elementwise(NodeOp::Binary(BinaryOp::Sub), &[t, mean], "-", span)?;
        let square = self.elementwise(NodeOp::Binary(BinaryOp::Mul), &[centred.clone(), centred], "*", span)?;
        Ok(Value::Tensor(self.reduce(ReduceOp::Mean, &square, &over, span)))
    }

    /// `mean`, `sum`, `min`, `max` of a list of numbers or of tensors with the same axes.
    fn reduce_list(&mut self, name: &str, items: &[Value], at: Span, span: Span) -> Res<Value> {
        let op = match name {
            "mean" | "sum" => Op::Add,
            "min" | "max" => Op::Lt,
            _ => return self.error("V0104", format!("`{name}` of a list is not defined"), span, "a list"),
        };
        let Some((first, rest)) = items.split_first() else {
            return self.error("V0104", format!("`{name}` of an empty list"), at, "nothing in it");
        };
        for v in rest {
            if let (Value::Tensor(a), Value::Tensor(b)) = (first, v)
                && (a.axes.len() != b.axes.len() || a.axes.iter().any(|x| !b.axes.contains(x)))
            {
                let text = format!("`{name}` of a list needs items with the same axes");
                return self.error("V0205", text, at, format!("{} and {}", self.show(a), self.show(b)));
            }
        }
        let mut total = first.clone();
        for v in rest {
            total = match (op, name) {
                (Op::Add, _) => self.binary(Op::Add, &total, v, span)?,
                (_, "min") => self.extreme(BinaryOp::Min, name, &total, v, span)?,
                _ => self.extreme(BinaryOp::Max, name, &total, v, span)?,
            };
        }
        if name == "mean" && items.len() > 1 {
            return self.binary(Op::Div, &total, &Value::whole(items.len()), span);
        }
        Ok(total)
    }

    /// `mean([ ... for z ~ masks ])`.
    fn reduce_packed(&mut self, name: &str, t: &Tensor, origin: &Rc<Origin>, span: Span) -> Res<Value> {
        let mean = match name {
            "mean" => true,
            "sum" => false,
            _ => {
                let items = self.unpack(origin, span)?;
                return self.reduce_list(name, &items, span, span);
            }
        };
        if let Some(counted) = t.axes.iter().find(|a| self.size(**a).is_none()) {
            let text = format!(
                "`{name}` of these values needs the same number of `{}` for every mask",
                self.axis(*counted).name
            );
            let d = Diagnostic::error("V0205", text, span, self.show(t));
            return Err(self.fail(d.help(format!("reduce that axis first: `mean[{}](...)`", self.axis(*counted).name))));
        }
        let axes = self.node(t.node).axes.clone();
        let node = self.emit(NodeOp::OverMasks { mean }, &[t.node], Outer::Clips, axes, span);
        Ok(Value::Tensor(Tensor { node, of: None, made: None, ..t.clone() }))
    }

    fn dot(&mut self, a: &Value, b: &Value, items: &[Rc<Expr>], scope: &ScopeRef, span: Span) -> Res<Value> {
        let (x, y) = (self.tensor(a, span)?, self.tensor(b, span)?);
        let mut over = vec![];
        for item in items {
            let name = self.axis_name(item)?;
            let (p, q) = (self.axes_of(&name, &x, scope, item.span)?, self.axes_of(&name, &y, scope, item.span)?);
            if p != q {
                let text = format!("the two sides of `dot[{name}]` have different axes called `{name}`");
                return self.error("V0205", text, span, format!("{} and {}", self.show(&x), self.show(&y)));
            }
            over.extend(p);
        }
        let outer = self.join_outer(self.outer(&x), self.outer(&y), span)?;
        let union = |p: &[AxisId], q: &[AxisId]| -> Vec<AxisId> {
            let mut all: Vec<AxisId> = p.iter().copied().filter(|a| !over.contains(a)).collect();
            let more: Vec<AxisId> = q.iter().copied().filter(|a| !over.contains(a) && !all.contains(a)).collect();
            all.extend(more);
            all
        };
        let (axes, loops) = (union(&x.axes, &y.axes), union(&x.loops, &y.loops));
        let mut node_axes = loops.clone();
        node_axes.extend(&axes);
        let node = self.emit(NodeOp::Dot(over.clone()), &[x.node, y.node], outer, node_axes, span);
        Ok(Value::Tensor(Tensor { node, axes, loops, of: None, made: None }))
    }

    fn unstack(&mut self, v: &Value, item: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        let t = self.tensor(v, span)?;
        let name = self.axis_name(item)?;
        let axis = self.axis_of(&name, &t, scope, item.span)?;
        let Some(size) = self.size(axis) else {
            return self.error("V0204", format!("`{name}` has no fixed size"), item.span, "counted by a mask");
        };
        let keep = |axes: &[AxisId]| -> Vec<AxisId> { axes.iter().copied().filter(|a| *a != axis).collect() };
        let node_axes = keep(&self.node(t.node).axes);
        let items = (0..size).map(|i| {
            let node = self.emit(NodeOp::AtFixed(axis, i), &[t.node], self.outer(&t), node_axes.clone(), span);
            Value::Tensor(Tensor { node, axes: keep(&t.axes), loops: t.loops.clone(), of: t.of, made: None })
        });
        Ok(Value::List(Rc::new(items.collect())))
    }

    fn stack(&mut self, values: &[Value], item: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        let values: Vec<Value> = match values {
            [Value::List(items)] => items.to_vec(),
            [Value::Packed(_, _, origin)] => self.unpack(origin, span)?,
            several => several.to_vec(),
        };
        let tensors: Vec<Tensor> = values.iter().map(|v| self.tensor(v, span)).collect::<Res<_>>()?;
        let Some(big) = tensors.iter().max_by_key(|t| t.axes.len()).cloned() else {
            return self.error("V0104", "`stack` of nothing", span, "an empty list");
        };
        let name = self.axis_name(item)?;
        let axis = match self.axes_named(&name, scope)?.as_deref() {
            Some([a]) => *a,
            _ => {
                let a = self.fixed_axis(&name, tensors.len());
                self.label_here(&name, a, scope);
                a
            }
        };
        if self.size(axis) != Some(tensors.len()) {
            let text =
                format!("axis `{name}` has size {}, but {} values are stacked", self.show_size(axis), tensors.len());
            return self.error("V0208", text, span, "as many values as positions are needed");
        }
        let (mut outer, mut loops) = (Outer::One, vec![]);
        for t in &tensors {
            outer = self.join_outer(outer, self.outer(t), span)?;
            loops.extend(t.loops.iter().copied().filter(|l| !loops.contains(l)).collect::<Vec<_>>());
            if t.axes.iter().any(|a| !big.axes.contains(a)) {
                let text = "`stack` needs values with the same axes";
                return self.error("V0205", text, span, format!("{} and {}", self.show(t), self.show(&big)));
            }
        }
        let mut node_axes = loops.clone();
        node_axes.extend(&big.axes);
        let nodes: Vec<NodeId> = tensors
            .iter()
            .map(|t| self.arranged(&Tensor { loops: vec![], ..t.clone() }, &node_axes, span).node)
            .collect();
        let mut axes = big.axes.clone();
        axes.push(axis);
        node_axes.push(axis);
        let node = self.emit(NodeOp::Stack(axis), &nodes, outer, node_axes, span);
        Ok(Value::Tensor(Tensor { node, axes, loops, of: None, made: None }))
    }

    fn one_hot(&mut self, v: &Value, item: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        let t = self.tensor(v, span)?;
        let name = self.axis_name(item)?;
        let axis = match self.axes_named(&name, scope)?.as_deref() {
            Some([axis]) => *axis,
            _ => {
                return self.error("V0204", format!("there is no axis called `{name}` here"), item.span, "not an axis");
            }
        };
        let mut axes = t.axes.clone();
        axes.push(axis);
        let mut node_axes = self.node(t.node).axes.clone();
        node_axes.push(axis);
        let node = self.emit(NodeOp::OneHot(axis), &[t.node], self.outer(&t), node_axes, span);
        Ok(Value::Tensor(Tensor { node, axes, loops: t.loops, of: None, made: None }))
    }

    fn spread(&mut self, v: &Value, items: &[Rc<Expr>], scope: &ScopeRef, span: Span) -> Res<Value> {
        let t = self.tensor(v, span)?;
        let mut axes = vec![];
        for item in items {
            let name = self.axis_name(item)?;
            match self.axes_named(&name, scope)? {
                Some(found) => axes.extend(found.into_iter().filter(|a| !t.axes.contains(a))),
                None => {
                    return self.error(
                        "V0204",
                        format!("there is no axis called `{name}` here"),
                        item.span,
                        "not an axis",
                    );
                }
            }
        }
        axes.extend(&t.axes);
        Ok(Value::Tensor(self.arranged(&t, &axes, span)))
    }

    fn coords(&mut self, v: &Value, span: Span) -> Res<Value> {
        let Value::Num(Num { axis: Some(axis), .. }) = v else {
            return self.error(
                "V0104",
                format!("`coords` needs a product axis, found {}", v.kind()),
                span,
                "not an axis",
            );
        };
        let count = self.axis(*axis).factors.len();
        if count == 0 {
            let text = format!("`coords` needs a product axis, but `{}` has no factors", self.axis(*axis).name);
            return self.error("V0104", text, span, "not a product");
        }
        let coord = match self.coords.get(&count) {
            Some(c) => *c,
            None => {
                let c = self.fixed_axis("coord", count);
                self.coords.insert(count, c);
                c
            }
        };
        let axes = vec![*axis, coord];
        let node = self.leaf(Leaf::Coords(*axis), NodeOp::Coords(*axis), Outer::One, axes.clone(), span);
        Ok(Value::Tensor(Tensor { node, axes, loops: vec![], of: None, made: None }))
    }

    fn length(&mut self, v: &Value, span: Span) -> Res<Value> {
        match v {
            Value::List(items) => Ok(Value::whole(items.len())),
            Value::Packed(_, _, origin) => Ok(Value::whole(origin.masks.len())),
            Value::Axes(axes) => {
                let sizes: Option<Vec<usize>> = axes.iter().map(|a| self.size(*a)).collect();
                match sizes {
                    Some(s) => Ok(Value::whole(s.iter().product())),
                    // The length of a counted axis is known at run time: the sum of a one at every position.
                    None => {
                        let mut total = Value::Num(Num::whole(1));
                        for a in axes.iter() {
                            let ones = self.iota(*a, span);
                            let t = Tensor { node: ones, axes: vec![*a], loops: vec![], of: None, made: None };
                            let last = self.reduce(ReduceOp::Max, &t, &[*a], span);
                            let n = self.binary(Op::Add, &Value::Tensor(last), &Value::Num(Num::whole(1)), span)?;
                            total = self.binary(Op::Mul, &total, &n, span)?;
                        }
                        Ok(total)
                    }
                }
            }
            Value::Num(n @ Num { axis: Some(_), .. }) => Ok(Value::Num(n.plain())),
            v => {
                self.error("V0104", format!("`len` needs a list or an axis, found {}", v.kind()), span, "has no length")
            }
        }
    }

    fn distribution(&mut self, dist: Dist, name: &str, v: &Value, span: Span) -> Res<Value> {
        match v {
            Value::Num(Num { value, .. }) if value.real() < 0.0 => {
                self.error("V0104", format!("`{name}` needs a number that is not negative"), span, "negative")
            }
            Value::Num(Num { value: Number::Whole(_) | Number::Real(_), .. }) | Value::Tensor(_) => {
                Ok(Value::Dist(dist, Rc::new(vec![v.clone()])))
            }
            v => self.error("V0104", format!("`{name}` needs a number, found {}", v.kind()), span, "not a number"),
        }
    }

    fn ema(&mut self, v: &Value, m: &Value, at: Span, momentum: Span) -> Res<Value> {
        let Value::Instance(source) = v else {
            return self.error("V0104", format!("`ema` follows a block, found {}", v.kind()), at, "not a block");
        };
        let momentum = self.schedule(m, momentum)?;
        self.followers.push(Follower { name: String::new(), source: source.clone(), copies: vec![], momentum });
        let role = Role::Average(self.followers.len() - 1);
        Ok(Value::Instance(self.copy(source, Some(role))))
    }

    /// Positions along an axis.
    pub(super) fn iota(&mut self, axis: AxisId, span: Span) -> NodeId {
        let outer = self.outer_of_axis(axis);
        self.leaf(Leaf::Iota(axis), NodeOp::Iota, outer, vec![axis], span)
    }

    /// A counted axis exists only within its segments.
    fn outer_of_axis(&self, axis: AxisId) -> Outer {
        match self.axis(axis).size {
            crate::model::AxisSize::Static(_) => Outer::One,
            crate::model::AxisSize::Counted(set, ..) => Outer::Segments(set),
            crate::model::AxisSize::Joined(a, b) => match self.outer_of_axis(a) {
                Outer::One => self.outer_of_axis(b),
                other => other,
            },
        }
    }
}

fn unary(name: &str) -> Option<UnaryOp> {
    Some(match name {
        "exp" => UnaryOp::Exp,
        "log" => UnaryOp::Log,
        "sqrt" => UnaryOp::Sqrt,
        "abs" => UnaryOp::Abs,
        "sin" => UnaryOp::Sin,
        "cos" => UnaryOp::Cos,
        "tanh" => UnaryOp::Tanh,
        "erf" => UnaryOp::Erf,
        "floor" => UnaryOp::Floor,
        "ceil" => UnaryOp::Ceil,
        "round" => UnaryOp::Round,
        "sign" => UnaryOp::Sign,
        _ => return None,
    })
}

fn reduce_op(name: &str) -> Option<ReduceOp> {
    Some(match name {
        "sum" => ReduceOp::Sum,
        "mean" => ReduceOp::Mean,
        "max" => ReduceOp::Max,
        "min" => ReduceOp::Min,
        "any" => ReduceOp::Any,
        "all" => ReduceOp::All,
        "count" => ReduceOp::Count,
        _ => return None,
    })
}
