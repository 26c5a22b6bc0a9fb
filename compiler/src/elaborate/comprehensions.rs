//! `[ e for ... ]`: tensors over loop axes, lists of blocks, values for each drawn mask.

use std::rc::Rc;

use super::scope::{ScopeKind, ScopeRef};
use super::value::{Instance, Num, Number, Origin, Tensor, Value, ready};
use super::{Elab, Res, Stop};
use crate::diag::Diagnostic;
use crate::ir::graph::{Outer, SetId};
use crate::model::{AxisId, NodeOp};
use crate::source::Span;
use crate::syntax::ast::{Arg, Expr, ExprKind, Gen};

impl Elab<'_> {
    /// `[ body for gens ]`.
    pub(super) fn each(&mut self, body: &Rc<Expr>, gens: &[Gen], scope: &ScopeRef, span: Span) -> Res<Value> {
        let Some(first) = gens.first() else { return self.eval(body, scope) };
        let over = self.run_over(first, scope)?;
        if first.drawn {
            return self.each_mask(body, gens, over, scope, span);
        }
        match over {
            Value::List(items) => {
                let mut out = vec![];
                for (i, item) in items.iter().enumerate() {
                    let inner = self.scope(ScopeKind::Loop, Some(scope));
                    bind_pair(&inner, first, Value::whole(i), item.clone());
                    out.extend(self.rest_of(body, gens, &inner, span)?);
                }
                Ok(Value::List(Rc::new(out)))
            }
            Value::Packed(_, _, origin) => {
                let items = self.unpack(&origin, span)?;
                let mut out = vec![];
                for (i, item) in items.into_iter().enumerate() {
                    let inner = self.scope(ScopeKind::Loop, Some(scope));
                    bind_pair(&inner, first, Value::whole(i), item);
                    out.extend(self.rest_of(body, gens, &inner, span)?);
                }
                Ok(Value::List(Rc::new(out)))
            }
            _ => self.each_position(body, gens, over, scope, span),
        }
    }

    /// The remaining generators, as a list of results.
    fn rest_of(&mut self, body: &Rc<Expr>, gens: &[Gen], scope: &ScopeRef, span: Span) -> Res<Vec<Value>> {
        if gens.len() == 1 {
            return Ok(vec![self.eval(body, scope)?]);
        }
        match self.each(body, &gens[1..], scope, span)? {
            Value::List(items) => Ok(items.to_vec()),
            other => Ok(vec![other]),
        }
    }

    /// What a generator runs over; a label is an axis.
    fn run_over(&mut self, part: &Gen, scope: &ScopeRef) -> Res<Value> {
        if let ExprKind::Name(name) = &part.over.kind
            && let Some(axis) = scope.label(name)
            && !part.drawn
        {
            return Ok(Value::Axes(Rc::new(vec![axis])));
        }
        self.eval(&part.over, scope)
    }

    /// Over axes or whole numbers: a list of blocks if the body is one, else a tensor.
    fn each_position(
        &mut self,
        body: &Rc<Expr>,
        gens: &[Gen],
        over: Value,
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        let first = &gens[0];
        let mut why = None;
        if gens.len() == 1
            && let Value::Num(n) = &over
        {
            match self.first_item(body, first, scope) {
                Ok(Some(item)) => {
                    let count = self.whole_number(&over, "the number of items", first.over.span)?;
                    return self.list_of_blocks(body, first, count, item, scope);
                }
                Ok(None) => {}
                Err(e) => why = Some(e),
            }
            if n.value == Number::Whole(0) {
                return Ok(Value::List(Rc::new(vec![])));
            }
        }
        let result = self.tensor_over(body, gens, over, scope, span);
        // The body may have failed for the same reason with a plain number; that message is the clearer one.
        match (result, why) {
            (Err(_), Some(e)) => Err(e),
            (result, _) => result,
        }
    }

    /// The body at position 0, if it makes a block, a mask or a definition.
    fn first_item(&mut self, body: &Rc<Expr>, part: &Gen, scope: &ScopeRef) -> Res<Option<Value>> {
        let inner = self.scope(ScopeKind::Loop, Some(scope));
        inner.set(&part.names[0].text, ready(Value::whole(0)));
        let equations = super::scope::equations(scope);
        let calls = equations.as_ref().map_or(0, |e| e.call_count());
        let first = self.eval(body, &inner);
        // Unless the items are blocks this was a trial, and the body is evaluated again.
        if let (Some(equations), false) = (&equations, matches!(first, Ok(Value::Instance(_) | Value::Def(_)))) {
            equations.forget_calls(calls);
        }
        Ok(match first? {
            v @ (Value::Instance(_) | Value::Def(_)) => Some(v),
            _ => None,
        })
    }

    fn list_of_blocks(
        &mut self,
        body: &Rc<Expr>,
        part: &Gen,
        count: usize,
        first: Value,
        scope: &ScopeRef,
    ) -> Res<Value> {
        let mut items = vec![first];
        items.truncate(count);
        for i in 1..count {
            let inner = self.scope(ScopeKind::Loop, Some(scope));
            inner.set(&part.names[0].text, ready(Value::whole(i)));
            items.push(self.eval(body, &inner)?);
        }
        Ok(Value::List(Rc::new(items)))
    }

    fn tensor_over(&mut self, body: &Rc<Expr>, gens: &[Gen], over: Value, scope: &ScopeRef, span: Span) -> Res<Value> {
        let inner = self.scope(ScopeKind::Loop, Some(scope));
        let mut loops = vec![];
        for (k, part) in gens.iter().enumerate() {
            let over = if k == 0 { over.clone() } else { self.run_over(part, &inner)? };
            let axis = self.loop_axis(&over, part)?;
            loops.push(axis);
            let node = self.iota(axis, part.over.span);
            let variable = Tensor { node, axes: vec![], loops: vec![axis], of: None, made: None };
            inner.set(&part.names[0].text, ready(Value::Tensor(variable)));
        }
        let value = self.eval(body, &inner)?;
        let t = self.tensor(&value, body.span)?;
        if let Some(twice) = t.axes.iter().find(|a| loops.contains(a)) {
            let text =
                format!("the comprehension runs over `{}`, and its body has that axis too", self.axis(*twice).name);
            return self.error("V0205", text, span, self.show(&t));
        }
        let mut axes = loops.clone();
        axes.extend(&t.axes);
        let outer_loops: Vec<AxisId> = t.loops.iter().copied().filter(|l| !loops.contains(l)).collect();
        let flat = Tensor { loops: outer_loops, ..t };
        Ok(Value::Tensor(self.arranged(&flat, &axes, span)))
    }

    fn loop_axis(&mut self, over: &Value, part: &Gen) -> Res<AxisId> {
        let span = part.over.span;
        match over {
            Value::Num(Num { axis: Some(a), .. }) => Ok(*a),
            Value::Num(n) => {
                let n = self.bound_number(&part.names[0].text, *n);
                match n.axis {
                    Some(a) => Ok(a),
                    None => self.error(
                        "V0104",
                        "a comprehension needs a whole number above zero",
                        span,
                        super::units::show(n),
                    ),
                }
            }
            Value::Axes(axes) if axes.len() == 1 => Ok(axes[0]),
            Value::Tensor(t) if t.of.is_some() => match t.axes.last() {
                Some(a) => Ok(*a),
                None => self.error("V0104", "this index set has no axis", span, self.show(t)),
            },
            other => {
                let text =
                    format!("a comprehension runs over an axis, a whole number or a list, found {}", other.kind());
                self.error("V0104", text, span, "cannot be run over")
            }
        }
    }

    /// `for i, z ~ masks`: once for all masks, or once for each where that is not possible.
    fn each_mask(&mut self, body: &Rc<Expr>, gens: &[Gen], over: Value, scope: &ScopeRef, span: Span) -> Res<Value> {
        let first = &gens[0];
        let masks = self.mask_list(&over, first.over.span)?;
        if masks.is_empty() {
            let d = Diagnostic::error("V0403", "there is no mask to draw", first.over.span, "this list is empty");
            return Err(self.fail(d.help("give at least one: `masks = [multiblock(tokens)]`")));
        }
        if gens.len() == 1 {
            let taps = self.taps.len();
            match self.each_mask_at_once(body, first, &masks, scope) {
                Ok(Some(v)) => return Ok(v),
                Ok(None) | Err(Stop::NeedsNumber(_)) => self.taps.truncate(taps),
                Err(e) => return Err(e),
            }
        }
        Ok(Value::List(Rc::new(self.each_mask_singly(body, gens, &masks, scope, span)?)))
    }

    /// One evaluation for each mask, with segments of its own.
    fn each_mask_singly(
        &mut self,
        body: &Rc<Expr>,
        gens: &[Gen],
        masks: &[Rc<Instance>],
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Vec<Value>> {
        let first = &gens[0];
        let mut out = vec![];
        for i in 0..masks.len() {
            let set = self.one_mask_set(masks, i, first.over.span)?;
            let inner = self.scope(ScopeKind::Loop, Some(scope));
            bind_pair(&inner, first, Value::whole(i), Value::Drawn(set));
            for value in self.rest_of(body, gens, &inner, span)? {
                out.push(self.of_clips(value, set, span));
            }
        }
        Ok(out)
    }

    /// One evaluation for all masks. `None` if the result is not one value for each segment.
    fn each_mask_at_once(
        &mut self,
        body: &Rc<Expr>,
        part: &Gen,
        masks: &[Rc<Instance>],
        scope: &ScopeRef,
    ) -> Res<Option<Value>> {
        let Some(set) = self.mask_set(masks, part.over.span)? else { return Ok(None) };
        let inner = self.scope(ScopeKind::Loop, Some(scope));
        let place = self.strategy(set, part.over.span);
        bind_pair(&inner, part, place, Value::Drawn(set));
        let value = self.eval(body, &inner)?;
        match value {
            Value::Tensor(t) if self.outer(&t) == Outer::Segments(set) => {
                let origin =
                    Origin { body: body.clone(), part: part.clone(), masks: masks.to_vec(), scope: scope.clone() };
                Ok(Some(Value::Packed(set, t, Rc::new(origin))))
            }
            Value::Num(_) | Value::Tensor(_) => Ok(Some(Value::List(Rc::new(vec![value; masks.len()])))),
            _ => Ok(None),
        }
    }

    /// A value of a single mask, once for each clip: then it can meet values of other masks.
    fn of_clips(&mut self, value: Value, set: SetId, span: Span) -> Value {
        match &value {
            Value::Tensor(t)
                if self.outer(t) == Outer::Segments(set) && t.axes.iter().all(|a| self.size(*a).is_some()) =>
            {
                let axes = self.node(t.node).axes.clone();
                let node = self.emit(NodeOp::OverMasks { mean: true }, &[t.node], Outer::Clips, axes, span);
                Value::Tensor(Tensor { node, of: None, made: None, ..t.clone() })
            }
            _ => value,
        }
    }

    /// `xs[i]` of a list with one value for each mask.
    pub(super) fn packed_item(&mut self, packed: &Value, items: &[Arg], scope: &ScopeRef, span: Span) -> Res<Value> {
        let (Value::Packed(set, t, origin), [Arg { name: None, value: index, .. }]) = (packed, items) else {
            let d = Diagnostic::error(
                "V0104",
                "this is a list with one value for each mask",
                span,
                "a list takes one position",
            );
            return Err(self.fail(d.help("average it with `mean(...)`, or take one item with `x[0]`")));
        };
        match self.eval(index, scope)? {
            Value::Num(Num { value: Number::Whole(i), .. }) => {
                let items = self.unpack(origin, span)?;
                match usize::try_from(i).ok().and_then(|i| items.get(i)) {
                    Some(v) => Ok(v.clone()),
                    None => {
                        let text = format!("this list has {} items, so there is no item {i}", items.len());
                        self.error("V0104", text, index.span, "not in the list")
                    }
                }
            }
            Value::Interval(_) => {
                let list = Rc::new(self.unpack(origin, span)?);
                self.list_item(&list, items, scope, span)
            }
            Value::Tensor(i) if self.node(i.node).op == NodeOp::Strategy(*set) => Ok(Value::Tensor(t.clone())),
            Value::Tensor(_) => Err(Stop::NeedsNumber(index.span)),
            v => self.error(
                "V0104",
                format!("a position in a list is a whole number, found {}", v.kind()),
                index.span,
                "not a position",
            ),
        }
    }

    /// The items of a list with one value for each mask: each is computed over the segments of its own mask.
    pub(super) fn unpack(&mut self, origin: &Rc<Origin>, span: Span) -> Res<Vec<Value>> {
        let taps = self.taps.len();
        let items =
            self.each_mask_singly(&origin.body, std::slice::from_ref(&origin.part), &origin.masks, &origin.scope, span);
        self.taps.truncate(taps);
        items
    }
}

/// Binds `i, x` or just `x`.
fn bind_pair(scope: &ScopeRef, part: &Gen, index: Value, item: Value) {
    match &part.names[..] {
        [x] => scope.set(&x.text, ready(item)),
        [i, x, ..] => {
            scope.set(&i.text, ready(index));
            scope.set(&x.text, ready(item));
        }
        [] => {}
    }
}
