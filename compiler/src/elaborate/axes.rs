//! Axes: making them, finding them by name, and what they are made of.

use std::rc::Rc;

use super::scope::{ScopeKind, ScopeRef, home_of_labels};
use super::units::show_real;
use super::value::{Num, Number, Tensor, Value};
use super::{AxisFacts, Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::ir::graph::Outer;
use crate::model::{Axis, AxisId, AxisSize};
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind};

impl Elab<'_> {
    /// A new axis.
    pub(super) fn new_axis(&mut self, name: &str, size: AxisSize, factors: Vec<AxisId>) -> AxisId {
        self.axes.push(Axis { name: name.into(), size, factors });
        self.axis_facts.push(AxisFacts { parts: None });
        AxisId(self.axes.len() as u32 - 1)
    }

    /// A new axis of a known size.
    pub(super) fn fixed_axis(&mut self, name: &str, size: usize) -> AxisId {
        self.new_axis(name, AxisSize::Static(size), vec![])
    }

    /// A new axis that is like another in everything but identity.
    pub(super) fn twin_axis(&mut self, name: &str, like: AxisId) -> AxisId {
        let Axis { size, factors, .. } = self.axis(like).clone();
        let twin = self.new_axis(name, size, factors);
        self.axis_facts[twin.0 as usize].parts = self.axis_facts[like.0 as usize].parts;
        twin
    }

    pub(super) fn axis(&self, id: AxisId) -> &Axis {
        &self.axes[id.0 as usize]
    }

    /// Static size; a joined axis has one if both parts do.
    pub(super) fn size(&self, id: AxisId) -> Option<usize> {
        match self.axis(id).size {
            AxisSize::Static(n) => Some(n),
            AxisSize::Counted(..) => None,
            AxisSize::Joined(a, b) => Some(self.size(a)? + self.size(b)?),
        }
    }

    /// The two axes that `++` joined into this one.
    pub(super) fn parts(&self, id: AxisId) -> Option<(AxisId, AxisId)> {
        self.axis_facts[id.0 as usize].parts
    }

    /// The parts of `a ++ b ++ c` in order; an axis that was not joined is its only part.
    pub(super) fn all_parts(&self, id: AxisId) -> Vec<AxisId> {
        match self.parts(id) {
            Some((a, b)) => [self.all_parts(a), self.all_parts(b)].concat(),
            None => vec![id],
        }
    }

    /// The axis of `a ++ b`; the same pair gives the same axis.
    pub(super) fn joined_axis(&mut self, a: AxisId, b: AxisId) -> AxisId {
        if let Some(axis) = self.joins.get(&(a, b)) {
            return *axis;
        }
        let name = format!("{}|{}", self.axis(a).name, self.axis(b).name);
        let axis = self.new_axis(&name, AxisSize::Joined(a, b), vec![]);
        self.axis_facts[axis.0 as usize].parts = Some((a, b));
        self.joins.insert((a, b), axis);
        axis
    }

    /// True if the two are certainly equally long.
    pub(super) fn same_size(&self, a: AxisId, b: AxisId) -> bool {
        a == b
            || match (self.size(a), self.size(b)) {
                (Some(x), Some(y)) => x == y,
                (None, None) => match (&self.axis(a).size, &self.axis(b).size) {
                    (AxisSize::Joined(a, b), AxisSize::Joined(c, d)) => {
                        self.same_size(*a, *c) && self.same_size(*b, *d)
                    }
                    (x, y) => x == y,
                },
                _ => false,
            }
    }

    /// `1568`, or `at most 1568` for a counted axis.
    pub(super) fn show_size(&self, id: AxisId) -> String {
        if let Some(n) = self.size(id) {
            return n.to_string();
        }
        match self.axis(id).size {
            AxisSize::Static(n) => n.to_string(),
            AxisSize::Counted(_, _, n) => format!("at most {n}"),
            AxisSize::Joined(a, b) => format!("{} + {}", self.show_size(a), self.show_size(b)),
        }
    }

    /// `[batch, context, dim: 1024]`.
    pub(super) fn show(&self, t: &Tensor) -> String {
        let mut parts: Vec<String> = match self.nodes[t.node.0 as usize].outer {
            Outer::One => vec![],
            Outer::Clips | Outer::Segments(_) => vec!["batch".into()],
        };
        parts.extend(t.axes.iter().map(|a| match self.size(*a) {
            Some(n) => format!("{}: {n}", self.axis(*a).name),
            None => self.axis(*a).name.to_string(),
        }));
        let of = t.of.map(|a| format!(" in {}", self.axis(a).name)).unwrap_or_default();
        format!("[{}]{of}", parts.join(", "))
    }

    /// A number or group bound to a name becomes an axis of that name.
    pub(super) fn bound(&mut self, name: &str, value: Value, span: Span) -> Res<Value> {
        match value {
            Value::Num(n) => Ok(Value::Num(self.bound_number(name, n))),
            Value::Group(ref items) if items.iter().all(|(label, _)| label.is_some()) && !items.is_empty() => {
                if items.iter().any(|(_, v)| !matches!(v, Value::Num(_))) {
                    return Ok(value);
                }
                let fractional = items
                    .iter()
                    .any(|(_, v)| matches!(v, Value::Num(Num { value: Number::Real(x), .. }) if *x > 0.0 && *x < 1.0));
                if fractional {
                    return Ok(value); // shares, such as `data = (k710: 0.3, ssv2: 0.7)`
                }
                let factors = self.group_axes(&value, span)?;
                let size = factors.iter().filter_map(|a| self.size(*a)).product();
                let axis = self.new_axis(name, AxisSize::Static(size), factors);
                Ok(Value::Num(Num { axis: Some(axis), ..Num::whole(size as i64) }))
            }
            other => Ok(other),
        }
    }

    /// A whole number above zero becomes an axis.
    pub(super) fn bound_number(&mut self, name: &str, n: Num) -> Num {
        let Number::Whole(size) = n.value else { return n.plain() };
        if size <= 0 {
            return n.plain();
        }
        let factors = n.axis.map(|a| self.axis(a).factors.clone()).unwrap_or_default();
        Num { axis: Some(self.new_axis(name, AxisSize::Static(size as usize), factors)), ..n }
    }

    /// The axes of a group, a number or an axis parameter.
    pub(super) fn group_axes(&mut self, value: &Value, span: Span) -> Res<Vec<AxisId>> {
        match value {
            Value::Axes(axes) => Ok(axes.to_vec()),
            Value::Group(items) => {
                let mut axes = vec![];
                for (label, v) in items.iter() {
                    match (label, v) {
                        (Some(label), Value::Num(n)) => {
                            let size = self.axis_length(label, *n, span)?;
                            axes.push(self.fixed_axis(label, size));
                        }
                        _ => axes.extend(self.group_axes(v, span)?),
                    }
                }
                Ok(axes)
            }
            Value::Num(Num { axis: Some(a), .. }) => Ok(vec![*a]),
            Value::Num(n) => {
                let size = self.axis_length("axis", *n, span)?;
                Ok(vec![self.fixed_axis(&size.to_string(), size)])
            }
            other => self.error("V0104", format!("expected an axis, found {}", other.kind()), span, "not an axis"),
        }
    }

    /// A length of an axis must be a whole number above zero.
    fn axis_length(&self, label: &str, n: Num, span: Span) -> Res<usize> {
        match n.value {
            Number::Whole(size) if size > 0 => Ok(size as usize),
            Number::Whole(size) => {
                let text = format!("axis `{label}` would have size {size}");
                self.error("V0202", text, span, "an axis has at least one position")
            }
            Number::Real(x) => {
                let text = format!("axis `{label}` would have size {}, which is not a whole number", show_real(x));
                self.error("V0202", text, span, "does not divide evenly")
            }
        }
    }

    /// The axes that a name means in a scope, without looking at any tensor.
    pub(super) fn axes_named(&mut self, name: &str, scope: &ScopeRef) -> Res<Option<Vec<AxisId>>> {
        if let Some(axis) = scope.label(name) {
            return Ok(Some(vec![axis]));
        }
        let Some(thunk) = scope.field(name) else { return Ok(None) };
        // A name that is being computed right now (`q = ... x[q -> r]`) is not an axis yet.
        let value = match thunk.force(self) {
            Err(super::Stop::Cycle) => return Ok(None),
            other => other?,
        };
        Ok(match value {
            Value::Num(Num { axis: Some(a), .. }) => Some(vec![a]),
            Value::Axes(axes) => Some(axes.to_vec()),
            Value::Group(items) if items.iter().all(|(_, v)| matches!(v, Value::Num(_))) => {
                Some(self.group_axes(&value_group(items), Span { file: crate::source::FileId(0), start: 0, end: 0 })?)
            }
            _ => None,
        })
    }

    /// The axes of a tensor that a name means: what it means in the scope, if the tensor has it, else by display name.
    pub(super) fn axes_of(&mut self, name: &str, x: &Tensor, scope: &ScopeRef, span: Span) -> Res<Vec<AxisId>> {
        let named = self.axes_named(name, scope)?;
        let has = |a: &AxisId| x.axes.contains(a) || x.loops.contains(a);
        if let Some(axes) = &named
            && axes.iter().all(has)
        {
            return Ok(axes.clone());
        }
        if let Some(axis) = x.axes.iter().chain(&x.loops).rev().find(|a| &*self.axis(**a).name == name) {
            return Ok(vec![*axis]);
        }
        let names: Vec<String> = x.axes.iter().map(|a| self.axis(*a).name.to_string()).collect();
        let near = suggest::nearest(name, names.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let text = format!("this tensor has no axis called `{name}`");
        let d = Diagnostic::error("V0204", text, span, format!("it is {}", self.show(x))).maybe_help(near);
        Err(self.fail(d))
    }

    /// One axis of a tensor by name.
    pub(super) fn axis_of(&mut self, name: &str, x: &Tensor, scope: &ScopeRef, span: Span) -> Res<AxisId> {
        let axes = self.axes_of(name, x, scope, span)?;
        match axes[..] {
            [axis] => Ok(axis),
            _ => {
                self.error("V0204", format!("`{name}` stands for {} axes here", axes.len()), span, "expected one axis")
            }
        }
    }

    /// Axes listed in brackets after a function: names only.
    pub(super) fn listed_axes(&mut self, items: &[Rc<Expr>], x: &Tensor, scope: &ScopeRef) -> Res<Vec<AxisId>> {
        let mut all = vec![];
        for item in items {
            let name = self.axis_name(item)?;
            all.extend(self.axes_of(&name, x, scope, item.span)?);
        }
        Ok(all)
    }

    /// An expression that must be the name of an axis; `dim=1` and the like are explained.
    pub(super) fn axis_name(&self, item: &Expr) -> Res<Rc<str>> {
        match &item.kind {
            ExprKind::Name(n) => Ok(n.clone()),
            ExprKind::Number { .. } => {
                let d =
                    Diagnostic::error("V0204", "axes have names, not numbers", item.span, "not the name of an axis");
                Err(self.fail(d.help("write the name of the axis, as in `mean[tokens](x)`")))
            }
            _ => self.error("V0204", "expected the name of an axis", item.span, "not the name of an axis"),
        }
    }

    /// The axis that a new name on the right of `->` stands for, made if there is none.
    pub(super) fn label_here(&self, name: &Rc<str>, axis: AxisId, scope: &ScopeRef) {
        home_of_labels(scope).set_label(name, axis);
    }

    /// True if the scope lies directly in a model: its equations are worth keeping.
    pub(super) fn at_model_level(&self, scope: &ScopeRef) -> bool {
        let home = home_of_labels(scope);
        match &home.kind {
            ScopeKind::Body(i) => i.kind() == Some(crate::syntax::ast::Kind::Model),
            _ => false,
        }
    }
}

fn value_group(items: Rc<Vec<(Option<Rc<str>>, Value)>>) -> Value {
    Value::Group(items)
}
