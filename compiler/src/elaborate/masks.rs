//! Masks: draws, index sets, and the sets of segments that `~` makes.

use std::rc::Rc;

use super::emit::Leaf;
use super::scope::{ScopeKind, ScopeRef};
use super::value::{Closure, Instance, Num, Tensor, Value, What};
use super::{DrawnSet, Elab, Res};
use crate::diag::Diagnostic;
use crate::ir::graph::{Outer, SetId};
use crate::ir::op::{DType, Dist, Which};
use crate::model::{self, AxisId, AxisSize, NodeId, NodeOp};
use crate::source::Span;
use crate::syntax::ast::{DefValue, Expr, FormalKind, Kind, Op, StmtKind, Word};

/// True if a scope lies in the body of a mask.
fn inside_mask(scope: &ScopeRef) -> bool {
    let mut at = Some(scope);
    while let Some(s) = at {
        if let ScopeKind::Body(owner) = &s.kind {
            return owner.kind() == Some(Kind::Mask);
        }
        at = s.parent.as_ref();
    }
    false
}

impl Elab<'_> {
    /// `name[axes] ~ from per batch`.
    pub(super) fn draw(
        &mut self,
        name: &Word,
        axes: &[Word],
        from: &Rc<Expr>,
        per: Option<&Word>,
        scope: &ScopeRef,
    ) -> Res<Value> {
        let span = from.span;
        if !inside_mask(scope) {
            let d = Diagnostic::error("V0403", "`~` draws inside a mask only", name.span, "drawn here");
            return Err(self.fail(d));
        }
        let mut over = vec![];
        for word in axes {
            match self.axes_named(&word.text, scope)? {
                Some(found) => over.extend(found),
                None => {
                    return self.error(
                        "V0204",
                        format!("there is no axis called `{}` here", word.text),
                        word.span,
                        "not an axis",
                    );
                }
            }
        }
        let batch = match per {
            None => false,
            Some(word) if &*word.text == "batch" => true,
            Some(word) => {
                let d = Diagnostic::error(
                    "V0403",
                    format!("a draw is shared `per batch`, not per `{}`", word.text),
                    word.span,
                    "expected `batch`",
                );
                return Err(self.fail(d));
            }
        };
        let value = self.eval(from, scope)?;
        let (dist, parameters) = match &value {
            // A number that may depend on the step is not drawn.
            Value::Num(_) | Value::Tensor(_) | Value::Schedule(_) | Value::Arrow(_) if over.is_empty() => {
                return Ok(value);
            }
            Value::Num(_) | Value::Tensor(_) | Value::Schedule(_) | Value::Arrow(_) => {
                let t = self.tensor(&value, span)?;
                return Ok(Value::Tensor(self.arranged(&t, &over, span)));
            }
            Value::Dist(dist, parameters) => {
                let tensors: Res<Vec<Tensor>> = parameters.iter().map(|p| self.tensor(p, span)).collect();
                (*dist, tensors?)
            }
            Value::Interval(i) => {
                let (lo, hi) = (self.tensor(&i.lo, span)?, self.tensor(&i.hi, span)?);
                let whole = self.whole[lo.node.0 as usize] && self.whole[hi.node.0 as usize];
                if let (Value::Num(a), Value::Num(b)) = (&i.lo, &i.hi)
                    && (a.value.real() > b.value.real() || whole && !i.closed && a.value == b.value)
                {
                    let text =
                        format!("there is nothing between {} and {}", super::units::show(*a), super::units::show(*b));
                    return self.error("V0403", text, span, "an empty interval");
                }
                if whole {
                    let hi = if i.closed {
                        i.hi.clone()
                    } else {
                        self.binary(Op::Sub, &i.hi, &Value::Num(Num::whole(1)), span)?
                    };
                    let hi = self.tensor(&hi, span)?;
                    (Dist::Whole, vec![lo, hi])
                } else {
                    (Dist::Uniform, vec![lo, hi])
                }
            }
            other => {
                let text = format!("`~` draws from an interval or a distribution, found {}", other.kind());
                return self.error("V0403", text, span, "cannot be drawn from");
            }
        };
        let outer = if batch { Outer::One } else { Outer::Clips };
        for p in &parameters {
            if !p.axes.is_empty() || !p.loops.is_empty() {
                let text = format!("the bounds of `{}` must be single numbers", name.text);
                return self.error("V0403", text, span, self.show(p));
            }
            if batch && self.outer(p) != Outer::One {
                let d = Diagnostic::error(
                    "V0403",
                    format!("`{}` is one draw for the batch, but it depends on draws for each clip", name.text),
                    span,
                    "differs from clip to clip",
                );
                return Err(self.fail(d.help("draw its bounds `per batch` too, or drop `per batch`")));
            }
        }
        let nodes: Vec<NodeId> = parameters.iter().map(|p| p.node).collect();
        let node = self.emit(NodeOp::Draw { dist, name: name.text.clone() }, &nodes, outer, over.clone(), span);
        Ok(Value::Tensor(Tensor { node, axes: over, loops: vec![], of: None, made: None }))
    }

    /// The masks that a `~` runs over.
    pub(super) fn mask_list(&mut self, over: &Value, span: Span) -> Res<Vec<Rc<Instance>>> {
        let items: Vec<Value> = match over {
            Value::List(items) => items.to_vec(),
            one => vec![one.clone()],
        };
        let mut masks = vec![];
        for item in items {
            match item {
                Value::Instance(i) if i.kind() == Some(Kind::Mask) => masks.push(i),
                other => {
                    let text = format!("only masks can be drawn with `~`, found {}", other.kind());
                    let d = Diagnostic::error("V0403", text, span, "not a mask");
                    return Err(self.fail(d.help("use `in` to run over a list or an axis")));
                }
            }
        }
        Ok(masks)
    }

    /// The model's mask of an instance: the n-th time it stands in a list is a draw of its own.
    fn mask_index(&mut self, mask: &Rc<Instance>, occurrence: usize, span: Span) -> Res<usize> {
        let found = self.masks.iter().position(|(i, n, _)| Rc::ptr_eq(i, mask) && *n == occurrence);
        if let Some(i) = found {
            return Ok(i);
        }
        let made = match self.masks.iter().find(|(i, ..)| Rc::ptr_eq(i, mask)) {
            Some((.., first)) => first.clone(),
            None => {
                let outside = self.enter(mask.maker.span);
                self.at.place = mask.place();
                let made = self.mask(mask, span);
                self.at = outside;
                made?
            }
        };
        let place = mask.place();
        let base = if place.is_empty() { format!("{}{}", mask.name(), self.masks.len()) } else { place.to_string() };
        let name = if occurrence == 0 { base } else { format!("{base}#{occurrence}") };
        self.masks.push((mask.clone(), occurrence, model::Mask { name, ..made }));
        Ok(self.masks.len() - 1)
    }

    /// The two answers of a mask, over (extra..., factors of tokens).
    fn mask(&mut self, mask: &Rc<Instance>, span: Span) -> Res<model::Mask> {
        let What::Def(closure) = &mask.maker.what else { return self.error("V0403", "not a mask", span, "not a mask") };
        let (closure, def) = (closure.clone(), closure.def.clone());
        let body = self.open(mask, span)?;
        let grid = def.formals.iter().find(|f| matches!(f.kind, Some(FormalKind::Group(_))));
        let Some(grid) = grid else {
            let d = Diagnostic::error(
                "V0403",
                format!("`{}` does not say which tokens it masks", def.name.text),
                def.name.span,
                "no grid of tokens",
            );
            return Err(self.fail(d.help("give it an input such as `tokens: (time, rows, cols)`")));
        };
        let Some(tokens) = self.product_axis(&mask.header, &grid.names[0].text)? else {
            let text = format!("`{}` needs a product axis for `{}`", def.name.text, grid.names[0].text);
            return self.error("V0403", text, mask.maker.span, "in this call");
        };
        let factors = self.axis(tokens).factors.clone();
        if factors.is_empty() {
            let text = format!("`{}` of `{}` must be a product of axes", grid.names[0].text, def.name.text);
            return self.error("V0104", text, mask.maker.span, "in this call");
        }
        self.expand(&def, span, |elab| {
            let mut sides = vec![];
            for (side, _) in super::value::SIDES {
                sides.push(elab.mask_side(mask, &def.name, &body, side, &factors)?);
            }
            let require = elab.mask_requirements(&closure, &body)?;
            let (target, context) = (sides.pop(), sides.pop());
            let ((context, context_extra), (target, target_extra)) = match (context, target) {
                (Some(c), Some(t)) => (c, t),
                _ => return elab.error("V0403", "a mask has two sides", span, "here"),
            };
            Ok(model::Mask { name: String::new(), tokens, context, target, context_extra, target_extra, require })
        })
    }

    fn mask_side(
        &mut self,
        mask: &Rc<Instance>,
        name: &Word,
        body: &ScopeRef,
        side: &str,
        factors: &[AxisId],
    ) -> Res<(NodeId, Vec<AxisId>)> {
        let Some(thunk) = body.get(side) else {
            let d = Diagnostic::error(
                "V0403",
                format!("mask `{}` does not say what its `{side}` is", name.text),
                name.span,
                "needs both `context` and `target`",
            );
            return Err(self.fail(d.help(if side == "context" {
                "for example `context = not target`"
            } else {
                "define `target`, true where a token must be predicted"
            })));
        };
        let span = mask.maker.span;
        let value = self.force_named(&thunk, side, name.span)?;
        let t = self.tensor(&value, span)?;
        let missing: Vec<String> =
            factors.iter().filter(|f| !t.axes.contains(f)).map(|f| format!("`{}`", self.axis(*f).name)).collect();
        if !missing.is_empty() {
            let text = format!("`{side}` of mask `{}` says nothing for axis {}", name.text, missing.join(", "));
            let d = Diagnostic::error("V0402", text, name.span, format!("`{side}` is {}", self.show(&t)));
            return Err(self.fail(d.help("it must say yes or no for every token: `[ ... for t in time ]`")));
        }
        if self.node(t.node).dtype != DType::Bool {
            let text = format!("`{side}` of mask `{}` must be true or false for every token", name.text);
            return self.error("V0403", text, name.span, "these are numbers");
        }
        let extra: Vec<AxisId> = t.axes.iter().copied().filter(|a| !factors.contains(a)).collect();
        let mut order = extra.clone();
        order.extend(factors);
        Ok((self.arranged(&t, &order, span).node, extra))
    }

    fn mask_requirements(&mut self, closure: &Closure, body: &ScopeRef) -> Res<Vec<NodeId>> {
        let DefValue::Body(stmts) = &closure.def.value else { return Ok(vec![]) };
        let mut out = vec![];
        for stmt in &stmts.stmts {
            let StmtKind::Require(cond, _) = &stmt.kind else { continue };
            let inner = self.line_scope(closure, stmt.span, body);
            match self.eval(cond, &inner)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    return self.error("V0401", "this mask can never be drawn", cond.span, "this never holds");
                }
                v => {
                    let t = self.tensor(&v, cond.span)?;
                    if !t.axes.is_empty() {
                        let d = Diagnostic::error("V0104", "`require` needs one answer", cond.span, self.show(&t));
                        return Err(self.fail(d.help("use `any(...)` or `all(...)`")));
                    }
                    out.push(t.node);
                }
            }
        }
        Ok(out)
    }

    /// The set of all masks of a list. `None` if their extra axes differ.
    pub(super) fn mask_set(&mut self, masks: &[Rc<Instance>], span: Span) -> Res<Option<SetId>> {
        let mut indices = vec![];
        for (i, mask) in masks.iter().enumerate() {
            let occurrence = masks[..i].iter().filter(|m| Rc::ptr_eq(m, mask)).count();
            indices.push(self.mask_index(mask, occurrence, span)?);
        }
        let shape = |elab: &Elab, i: usize| {
            let m = &elab.masks[i].2;
            (m.tokens, m.context_extra.clone(), m.target_extra.clone())
        };
        let first = shape(self, indices[0]);
        if indices.iter().any(|i| shape(self, *i) != first) {
            return Ok(None);
        }
        Ok(Some(self.set_of(indices, first.0)))
    }

    /// The set of the i-th mask of a list alone.
    pub(super) fn one_mask_set(&mut self, masks: &[Rc<Instance>], i: usize, span: Span) -> Res<SetId> {
        let occurrence = masks[..i].iter().filter(|m| Rc::ptr_eq(m, &masks[i])).count();
        let index = self.mask_index(&masks[i], occurrence, span)?;
        let tokens = self.masks[index].2.tokens;
        Ok(self.set_of(vec![index], tokens))
    }

    /// Every `~` over the same masks sees the same draw.
    fn set_of(&mut self, masks: Vec<usize>, tokens: AxisId) -> SetId {
        let found = self.sets.iter().position(|s| s.masks == masks);
        let index = found.unwrap_or_else(|| {
            self.sets.push(DrawnSet { masks, tokens });
            self.sets.len() - 1
        });
        SetId(index as u32)
    }

    /// The counted axis of one side of a set.
    pub(super) fn counted_axis(&mut self, set: SetId, which: Which) -> AxisId {
        let target = which == Which::Target;
        if let Some(axis) = self.counted.get(&(set, target)) {
            return *axis;
        }
        let bound = self.size(self.sets[set.0 as usize].tokens).unwrap_or(0);
        let name = if target { "target" } else { "context" };
        let axis = self.new_axis(name, AxisSize::Counted(set, which, bound), vec![]);
        self.counted.insert((set, target), axis);
        axis
    }

    /// `z.context` or `z.target`.
    pub(super) fn index_set(&mut self, set: SetId, which: Which, span: Span) -> Res<Tensor> {
        let drawn = &self.sets[set.0 as usize];
        let (tokens, mask) = (drawn.tokens, &self.masks[drawn.masks[0]].2);
        let mut axes = if which == Which::Context { mask.context_extra.clone() } else { mask.target_extra.clone() };
        axes.push(self.counted_axis(set, which));
        let node =
            self.leaf(Leaf::Index(set, which), NodeOp::Index(set, which), Outer::Segments(set), axes.clone(), span);
        Ok(Tensor { node, axes, loops: vec![], of: Some(tokens), made: None })
    }

    /// `i` of `for i, z ~ masks`.
    pub(super) fn strategy(&mut self, set: SetId, span: Span) -> Value {
        let node = self.leaf(Leaf::Strategy(set), NodeOp::Strategy(set), Outer::Segments(set), vec![], span);
        Value::Tensor(Tensor { node, axes: vec![], loops: vec![], of: None, made: None })
    }
}
