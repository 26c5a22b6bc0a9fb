//! Brackets after a value: rename, split, merge, pick, take, part; and `++`.

use std::rc::Rc;

use super::elementwise::is_tensor;
use super::scope::ScopeRef;
use super::value::{Num, Number, Tensor, Value};
use super::{Elab, Res, Stop};
use crate::diag::Diagnostic;
use crate::model::{AxisId, AxisSize, NodeOp};
use crate::source::Span;
use crate::syntax::ast::{Arg, Expr, ExprKind, Op};

impl Elab<'_> {
    /// `x[items]` where x is a value, not a function.
    pub(super) fn pick(&mut self, x: &Rc<Expr>, items: &[Arg], scope: &ScopeRef, span: Span) -> Res<Value> {
        let value = self.eval(x, scope)?;
        self.pick_value(value, items, scope, span)
    }

    pub(super) fn pick_value(&mut self, value: Value, items: &[Arg], scope: &ScopeRef, span: Span) -> Res<Value> {
        match &value {
            Value::List(list) => return self.list_item(&list.clone(), items, scope, span),
            Value::Packed(..) => return self.packed_item(&value, items, scope, span),
            Value::Stacked(axis, list) => {
                if let [item] = items
                    && let Some(name) = &item.name
                    && *self.axis(*axis).name == *name.text
                    && let Value::Num(Num { value: Number::Whole(i), .. }) = self.eval(&item.value, scope)?
                {
                    return match usize::try_from(i).ok().and_then(|i| list.get(i)) {
                        Some(t) => Ok(Value::Tensor(t.clone())),
                        None => self.out_of_range(*axis, i, item.value.span),
                    };
                }
            }
            Value::Def(_) | Value::Builtin(_) => {
                return self.error("V0104", "a function with axes must be called", span, "write `f[axis](x)`");
            }
            v if is_tensor(v) => {}
            v => {
                let text = format!("only tensors, lists and functions take brackets, found {}", v.kind());
                return self.error("V0104", text, span, "not a tensor");
            }
        }
        let mut t = self.tensor(&value, span)?;
        for item in items {
            t = self.pick_one(&t, item, scope)?;
        }
        Ok(Value::Tensor(t))
    }

    fn pick_one(&mut self, t: &Tensor, item: &Arg, scope: &ScopeRef) -> Res<Tensor> {
        let span = item.value.span;
        if let Some(name) = &item.name {
            let axis = self.axis_of(&name.text, t, scope, name.span)?;
            return self.take(t, axis, &item.value, scope);
        }
        match &item.value.kind {
            ExprKind::Arrow(ends) if ends.len() == 2 => match &ends[1].kind {
                ExprKind::Name(to) => self.rename_or_merge(t, &ends[0], to, scope, span),
                _ => self.split(t, &ends[0], &ends[1], scope, span),
            },
            ExprKind::Binary(Op::In, axis, set) => self.choose(t, axis, set, scope, span),
            ExprKind::Name(name) => self.part(t, name, scope, span),
            ExprKind::Number { .. } | ExprKind::Binary(Op::Range | Op::RangeInclusive, ..) => {
                let d = Diagnostic::error("V0204", "positions need the name of their axis", span, "of which axis?");
                Err(self.fail(d.help("write `x[axis = 0]`")))
            }
            _ => self.error(
                "V0204",
                "this is not something that brackets can do to a tensor",
                span,
                "not an axis operation",
            ),
        }
    }

    /// `x[a = i]`.
    fn take(&mut self, t: &Tensor, axis: AxisId, index: &Rc<Expr>, scope: &ScopeRef) -> Res<Tensor> {
        let span = index.span;
        let without = |axes: &[AxisId]| -> Vec<AxisId> { axes.iter().copied().filter(|a| *a != axis).collect() };
        let value = self.eval(index, scope)?;
        if let Value::Num(n) = value {
            let Number::Whole(i) = n.value else {
                return self.error("V0104", "a position must be a whole number", span, super::units::show(n));
            };
            let node_axes = without(&self.node(t.node).axes);
            let at = match usize::try_from(i) {
                Ok(at) if self.size(axis).is_none_or(|s| at < s) => at,
                _ => return self.out_of_range(axis, i, span),
            };
            let node = self.emit(NodeOp::AtFixed(axis, at), &[t.node], self.outer(t), node_axes, span);
            return Ok(Tensor { node, axes: without(&t.axes), loops: t.loops.clone(), of: t.of, made: None });
        }
        let index = self.tensor(&value, span)?;
        if let Some(extra) = index.axes.first() {
            let text = format!("a position is one number, but this has axis `{}`", self.axis(*extra).name);
            let d = Diagnostic::error("V0205", text, span, self.show(&index));
            return Err(self.fail(d.help("use `x[axis in indices]` to pick several positions")));
        }
        let outer = self.join_outer(self.outer(t), self.outer(&index), span)?;
        let mut loops = without(&t.loops);
        loops.extend(index.loops.iter().filter(|l| !t.loops.contains(l)));
        let axes = without(&t.axes);
        let mut node_axes = loops.clone();
        node_axes.extend(&axes);
        let node = self.emit(NodeOp::At(axis), &[t.node, index.node], outer, node_axes, span);
        Ok(Tensor { node, axes, loops, of: None, made: None })
    }

    fn out_of_range<T>(&self, axis: AxisId, i: i64, span: Span) -> Res<T> {
        let text =
            format!("axis `{}` has {} positions, so there is no {i}", self.axis(axis).name, self.show_size(axis));
        self.error("V0204", text, span, "out of range")
    }

    /// `x[a in idx]`.
    fn choose(&mut self, t: &Tensor, axis: &Rc<Expr>, set: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Tensor> {
        let name = self.axis_name(axis)?;
        let axis = self.axis_of(&name, t, scope, axis.span)?;
        let value = self.eval(set, scope)?;
        if matches!(value, Value::All | Value::Builtin("all")) {
            return Ok(t.clone());
        }
        let (Value::Tensor(index), true) = (&value, is_tensor(&value)) else {
            let text = format!("`in` picks with a set of indices, found {}", value.kind());
            return self.error("V0207", text, set.span, "not an index set");
        };
        let Some(of) = index.of else {
            let d = Diagnostic::error("V0207", "`in` picks with a set of indices", set.span, self.show(index));
            return Err(self.fail(d.help("index sets come from drawing a mask: `z.context` and `z.target`")));
        };
        if of != axis {
            let text = format!(
                "these are indices into `{}` ({}), not into `{}` ({})",
                self.axis(of).name,
                self.show_size(of),
                self.axis(axis).name,
                self.show_size(axis)
            );
            return self.error("V0207", text, span, "indices of another grid");
        }
        let outer = self.join_outer(self.outer(t), self.outer(index), span)?;
        let fresh: Vec<AxisId> = index.axes.iter().copied().filter(|a| !t.axes.contains(a)).collect();
        let place = |axes: &[AxisId]| -> Vec<AxisId> {
            axes.iter().flat_map(|a| if *a == axis { fresh.clone() } else { vec![*a] }).collect()
        };
        let node_axes = place(&self.node(t.node).axes);
        let node = self.emit(NodeOp::Pick(axis), &[t.node, index.node], outer, node_axes, span);
        Ok(Tensor { node, axes: place(&t.axes), loops: t.loops.clone(), of: None, made: None })
    }

    /// `x[a -> b]` and `x[(a, b) -> c]`.
    fn rename_or_merge(
        &mut self,
        t: &Tensor,
        from: &Rc<Expr>,
        to: &Rc<str>,
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Tensor> {
        let names = match &from.kind {
            ExprKind::Tuple(items) => items.iter().map(|i| i.value.clone()).collect(),
            _ => vec![from.clone()],
        };
        let source = self.listed_axes(&names, t, scope)?;
        let target = match self.axes_named(to, scope)? {
            Some(axes) if axes.len() == 1 => Some(axes[0]),
            Some(_) => {
                return self.error("V0208", format!("`{to}` stands for several axes"), span, "merge into one axis");
            }
            None => None,
        };
        if let [axis] = source[..] {
            let target = match target {
                Some(x) if self.same_size(x, axis) => x,
                Some(x) => {
                    let (a, b) = (self.axis(axis).name.clone(), self.axis(x).name.clone());
                    let text =
                        format!("axis `{a}` ({}) cannot become `{b}` ({})", self.show_size(axis), self.show_size(x));
                    return self.error("V0208", text, span, "the sizes differ");
                }
                None => {
                    let twin = self.twin_axis(to, axis);
                    self.label_here(to, twin, scope);
                    twin
                }
            };
            self.check_free(t, &[axis], &[target], span)?;
            return Ok(self.relabel(t, axis, target, span));
        }
        let mut size = 1;
        for a in &source {
            match self.size(*a) {
                Some(n) => size *= n,
                None => {
                    let text = format!("`{}` is counted by a mask and cannot be merged", self.axis(*a).name);
                    return self.error("V0208", text, span, "no fixed size");
                }
            }
        }
        let shown = |elab: &Elab, axes: &[AxisId]| -> String {
            axes.iter().map(|a| elab.axis(*a).name.to_string()).collect::<Vec<_>>().join(" x ")
        };
        let target = match target {
            Some(x) => {
                if self.size(x) != Some(size) {
                    let text = format!(
                        "{} = {size} positions cannot become `{}` ({})",
                        shown(self, &source),
                        self.axis(x).name,
                        self.show_size(x)
                    );
                    return self.error("V0208", text, span, "the sizes differ");
                }
                let factors = self.axis(x).factors.clone();
                if !factors.is_empty() && factors != source {
                    let text = format!("`{}` is {}, in this order", self.axis(x).name, shown(self, &factors));
                    return self.error("V0208", text, span, format!("this merges {}", shown(self, &source)));
                }
                x
            }
            None => {
                let x = self.new_axis(to, AxisSize::Static(size), source.clone());
                self.label_here(to, x, scope);
                x
            }
        };
        self.check_free(t, &source, &[target], span)?;
        let place = |axes: &[AxisId]| -> Vec<AxisId> {
            let first = axes.iter().position(|a| *a == source[0]).unwrap_or(0);
            let before = axes[..first].iter().filter(|a| !source.contains(a));
            let after = axes[first..].iter().filter(|a| !source.contains(a));
            before.chain([&target]).chain(after).copied().collect()
        };
        let node_axes = place(&self.node(t.node).axes);
        let node = self.emit(NodeOp::Merge(source.clone(), target), &[t.node], self.outer(t), node_axes, span);
        Ok(Tensor { node, axes: place(&t.axes), loops: t.loops.clone(), of: None, made: None })
    }

    /// New axes must not be on the tensor already.
    fn check_free(&self, t: &Tensor, leaving: &[AxisId], coming: &[AxisId], span: Span) -> Res<()> {
        for new in coming {
            if !leaving.contains(new) && t.axes.contains(new) {
                let text = format!("the result would have axis `{}` twice", self.axis(*new).name);
                return self.error("V0208", text, span, self.show(t));
            }
        }
        Ok(())
    }

    /// `x[a -> (b, c: 4)]`.
    fn split(&mut self, t: &Tensor, from: &Rc<Expr>, to: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Tensor> {
        let ExprKind::Tuple(items) = &to.kind else {
            return self.error("V0208", "an axis becomes another axis, or a group of axes", to.span, "not a group");
        };
        let name = self.axis_name(from)?;
        let axis = self.axis_of(&name, t, scope, from.span)?;
        let Some(total) = self.size(axis) else {
            let text = format!("`{name}` is counted by a mask and cannot be split");
            return self.error("V0208", text, span, "no fixed size");
        };
        let mut parts: Vec<Option<AxisId>> = vec![];
        let mut known = 1;
        let mut hole: Option<(usize, Rc<str>)> = None;
        for item in items {
            let part = match &item.name {
                Some(label) => {
                    let value = self.eval(&item.value, scope)?;
                    let size = self.whole_number(&value, &label.text, item.value.span)?;
                    let part = self.fixed_axis(&label.text, size);
                    self.label_here(&label.text, part, scope);
                    Some(part)
                }
                None => {
                    let name = self.axis_name(&item.value)?;
                    let named = self.axes_named(&name, scope)?;
                    match named.as_deref() {
                        Some([a]) => Some(*a),
                        Some(_) => {
                            return self.error(
                                "V0208",
                                format!("`{name}` stands for several axes"),
                                item.value.span,
                                "one axis is needed",
                            );
                        }
                        None if hole.is_some() => {
                            let d = Diagnostic::error(
                                "V0208",
                                "only one size of a split can be left open",
                                item.value.span,
                                format!("the size of `{name}` is unknown too"),
                            );
                            return Err(self.fail(d.help(format!("give it: `{name}: 4`"))));
                        }
                        None => {
                            hole = Some((parts.len(), name));
                            None
                        }
                    }
                }
            };
            if let Some(a) = part {
                known *= self.size(a).unwrap_or(0);
            }
            parts.push(part);
        }
        if let Some((at, name)) = hole {
            let part = self.fixed_axis(&name, total.checked_div(known).unwrap_or(0));
            self.label_here(&name, part, scope);
            parts[at] = Some(part);
        }
        let parts: Vec<AxisId> = parts.into_iter().flatten().collect();
        let product: usize = parts.iter().map(|a| self.size(*a).unwrap_or(0)).product();
        if product != total {
            let shown: Vec<String> =
                parts.iter().map(|a| format!("{} ({})", self.axis(*a).name, self.show_size(*a))).collect();
            let text = format!("`{}` ({total}) does not split into {}", self.axis(axis).name, shown.join(" x "));
            return self.error("V0208", text, span, format!("that makes {product}, not {total}"));
        }
        self.check_free(t, &[axis], &parts, span)?;
        let place = |axes: &[AxisId]| -> Vec<AxisId> {
            axes.iter().flat_map(|a| if *a == axis { parts.clone() } else { vec![*a] }).collect()
        };
        let node_axes = place(&self.node(t.node).axes);
        let node = self.emit(NodeOp::Split(axis, parts.clone()), &[t.node], self.outer(t), node_axes, span);
        Ok(Tensor { node, axes: place(&t.axes), loops: t.loops.clone(), of: None, made: None })
    }

    /// `z[part]` of a joined axis, also of a join of joins.
    fn part(&mut self, t: &Tensor, name: &Rc<str>, scope: &ScopeRef, span: Span) -> Res<Tensor> {
        let label = scope.label(name);
        for axis in t.axes.clone() {
            let by_label = label.and_then(|l| self.path_to_part(axis, &|_, a| a == l));
            let path = by_label.or_else(|| self.path_to_part(axis, &|elab, a| elab.axis(a).name == *name));
            let Some(path) = path else { continue };
            let mut result = t.clone();
            let mut at = axis;
            for first in path {
                let Some((a, b)) = self.parts(at) else { break };
                let part = if first { a } else { b };
                let swap = |axes: &[AxisId]| -> Vec<AxisId> {
                    axes.iter().map(|x| if *x == at { part } else { *x }).collect()
                };
                let node_axes = swap(&self.node(result.node).axes);
                let node = self.emit(NodeOp::Part(at, first), &[result.node], self.outer(&result), node_axes, span);
                result = Tensor { node, axes: swap(&result.axes), loops: result.loops.clone(), of: None, made: None };
                at = part;
            }
            return Ok(result);
        }
        let text = format!("`[{name}]` takes a part of a joined axis, and this tensor has none called `{name}`");
        let d = Diagnostic::error("V0204", text, span, format!("it is {}", self.show(t)));
        Err(self.fail(d.note("`a ++ b` joins two axes; `x[axis = 0]` takes one position")))
    }

    fn path_to_part(&self, axis: AxisId, is: &dyn Fn(&Elab, AxisId) -> bool) -> Option<Vec<bool>> {
        let (a, b) = self.parts(axis)?;
        for (part, first) in [(a, true), (b, false)] {
            if is(self, part) {
                return Some(vec![first]);
            }
            if let Some(rest) = self.path_to_part(part, is) {
                return Some([vec![first], rest].concat());
            }
        }
        None
    }

    /// `x ++ y`.
    pub(super) fn join(&mut self, x: Value, y: Value, span: Span) -> Res<Value> {
        let is_list = |v: &Value| matches!(v, Value::List(_) | Value::Packed(..));
        if is_list(&x) && is_list(&y) {
            let mut items = vec![];
            for v in [&x, &y] {
                match v {
                    Value::List(list) => items.extend(list.iter().cloned()),
                    Value::Packed(_, _, origin) => items.extend(self.unpack(origin, span)?),
                    _ => {}
                }
            }
            return Ok(Value::List(Rc::new(items)));
        }
        let (a, b) = (self.tensor(&x, span)?, self.tensor(&y, span)?);
        let only = |p: &Tensor, q: &Tensor| -> Vec<AxisId> {
            p.axes.iter().copied().filter(|x| !q.axes.contains(x)).collect()
        };
        let (da, db) = (only(&a, &b), only(&b, &a));
        let (Some(ja), Some(jb)) = (da.last().copied(), db.last().copied()) else {
            let d = Diagnostic::error(
                "V0205",
                "`++` needs an axis that only one side has, on each side",
                span,
                format!("{} ++ {}", self.show(&a), self.show(&b)),
            );
            return Err(self.fail(d.help("rename one of them first: `x[tokens -> first] ++ y`")));
        };
        if da.len() > 1 && db.len() > 1 {
            let text = "`++` can join along one axis only";
            return self.error("V0205", text, span, format!("{} ++ {}", self.show(&a), self.show(&b)));
        }
        let outer = self.join_outer(self.outer(&a), self.outer(&b), span)?;
        let joined = self.joined_axis(ja, jb);
        let (base, j) = if b.axes.len() >= a.axes.len() { (&b, jb) } else { (&a, ja) };
        let with =
            |axis: AxisId| -> Vec<AxisId> { base.axes.iter().map(|x| if *x == j { axis } else { *x }).collect() };
        let mut loops = a.loops.clone();
        loops.extend(b.loops.iter().filter(|l| !a.loops.contains(l)));
        let lift = |elab: &mut Elab, t: &Tensor, axes: Vec<AxisId>| -> Tensor {
            let mut want = loops.clone();
            want.extend(&axes);
            elab.arranged(&Tensor { loops: vec![], ..t.clone() }, &want, span)
        };
        let (left, right) = (lift(self, &a, with(ja)), lift(self, &b, with(jb)));
        let axes = with(joined);
        let mut node_axes = loops.clone();
        node_axes.extend(&axes);
        let node = self.emit(NodeOp::Join(ja, jb, joined), &[left.node, right.node], outer, node_axes, span);
        Ok(Value::Tensor(Tensor { node, axes, loops, of: None, made: None }))
    }

    /// `xs[3]` and `xs[2..6]`.
    pub(super) fn list_item(
        &mut self,
        list: &Rc<Vec<Value>>,
        items: &[Arg],
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        let [Arg { name: None, value: index, .. }] = items else {
            return self.error("V0104", "a list takes one position in brackets", span, "write `xs[0]` or `xs[2..6]`");
        };
        match self.eval(index, scope)? {
            Value::Num(Num { value: Number::Whole(i), .. }) => {
                match usize::try_from(i).ok().and_then(|i| list.get(i)) {
                    Some(v) => Ok(v.clone()),
                    None => {
                        let text = format!("this list has {} items, so there is no item {i}", list.len());
                        self.error("V0104", text, index.span, "not in the list")
                    }
                }
            }
            Value::Interval(i) => {
                let lo = self.whole_number(&i.lo, "the start", index.span)?;
                let hi = self.whole_number(&i.hi, "the end", index.span)? + usize::from(i.closed);
                match list.get(lo..hi) {
                    Some(part) => Ok(Value::List(Rc::new(part.to_vec()))),
                    None => {
                        let text = format!("this list has {} items, so there is no {lo}..{hi}", list.len());
                        self.error("V0104", text, index.span, "not in the list")
                    }
                }
            }
            Value::Tensor(_) => Err(Stop::NeedsNumber(index.span)),
            v => self.error(
                "V0104",
                format!("a position in a list is a whole number, found {}", v.kind()),
                index.span,
                "not a position",
            ),
        }
    }
}
