//! Stored tensors: `param` and `buffer`.

use std::rc::Rc;

use super::emit::Leaf;
use super::scope::ScopeRef;
use super::value::{Home, Instance, Num, Tensor, Value};
use super::{Elab, Res, Stored};
use crate::diag::Diagnostic;
use crate::ir::graph::Outer;
use crate::ir::op::Dist;
use crate::model::{AxisId, Init, NodeOp, Weight, WeightId, WeightKind};
use crate::source::Span;
use crate::syntax::ast::{ExprKind, Kind, Learn};

/// A declared shape.
struct Shape {
    stored: Vec<usize>,
    expanded: Vec<usize>,
    axes: Vec<AxisId>,
}

impl Elab<'_> {
    /// The value of `param` or `buffer`: a stored tensor, or a plain value where its condition is false.
    pub(super) fn learn(&mut self, learn: &Learn, scope: &ScopeRef, owner: Option<&Rc<Instance>>) -> Res<Value> {
        if let Some(cond) = &learn.condition {
            match self.eval(cond, scope)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return self.eval(&learn.init, scope),
                other => {
                    return self.error(
                        "V0104",
                        format!("`if` needs true or false, found {}", other.kind()),
                        cond.span,
                        "not a truth value",
                    );
                }
            }
        }
        let span = learn.name.span;
        let home = owner.and_then(|o| o.home.borrow().clone());
        let (Some(owner), Some(home)) = (owner, home) else {
            let d = Diagnostic::error(
                "V0108",
                format!("`{}` is stored, so its block must have a name", learn.name.text),
                span,
                "which block does it belong to?",
            );
            return Err(self.fail(d.help("make the block a field: `part = block(...)`, then call `part(x)`")));
        };
        let shape = self.declared_shape(learn, scope)?;
        let key = super::instances::join(&home.key, learn.key.as_ref().map_or(&learn.name.text, |k| &k.text));
        let init = self.initial(learn, &shape, scope)?;
        let (home, key) = if owner.kind() == Some(Kind::Model) {
            (Home { root: "model".into(), ..home }, super::instances::join("model", &key))
        } else {
            (home, key)
        };
        if learn.list.is_empty() {
            return Ok(Value::Tensor(self.store(&key, &shape, learn.trained, init, &home, span)));
        }
        let mut list = vec![];
        for word in &learn.list {
            match self.axes_named(&word.text, scope)? {
                Some(axes) => list.extend(axes),
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
        let [axis] = list[..] else {
            return self.error("V0104", "a list of weights has one axis", span, format!("this has {}", list.len()));
        };
        let Some(count) = self.size(axis) else {
            return self.error("V0104", "a list of weights needs a fixed size", span, "counted by a mask");
        };
        let items = (0..count).map(|i| {
            self.store(&super::instances::join(&key, &i.to_string()), &shape, learn.trained, init.clone(), &home, span)
        });
        Ok(Value::Stacked(axis, Rc::new(items.collect())))
    }

    fn store(&mut self, key: &str, shape: &Shape, trained: bool, init: Init, home: &Home, span: Span) -> Tensor {
        let id = WeightId(self.stored.len() as u32);
        let weight = Weight {
            key: key.to_string(),
            stored: shape.stored.clone(),
            expanded: shape.expanded.clone(),
            axes: shape.axes.clone(),
            kind: if trained { WeightKind::Trained(0) } else { WeightKind::Buffer },
            init,
            span,
        };
        self.stored.push(Stored { weight, role: home.role, root: home.root.clone() });
        let node = self.leaf(Leaf::Weight(id), NodeOp::Weight(id), Outer::One, shape.axes.clone(), span);
        Tensor { node, axes: shape.axes.clone(), loops: vec![], of: None, made: None }
    }

    fn declared_shape(&mut self, learn: &Learn, scope: &ScopeRef) -> Res<Shape> {
        let mut shape = Shape { stored: vec![], expanded: vec![], axes: vec![] };
        for dim in &learn.shape {
            let value = self.eval(dim, scope)?;
            if let (ExprKind::Number { .. }, Value::Num(_)) = (&dim.kind, &value) {
                let n = self.whole_number(&value, &learn.name.text, dim.span)?;
                if n != 1 {
                    let axis = self.fixed_axis(&n.to_string(), n);
                    shape.axes.push(axis);
                }
                shape.stored.push(n);
                shape.expanded.push(n);
                continue;
            }
            let axes = self.group_axes(&value, dim.span)?;
            let mut flat = 1usize;
            for axis in &axes {
                let Some(n) = self.size(*axis) else {
                    let text =
                        format!("`{}` is counted by a mask; a stored tensor needs fixed sizes", self.axis(*axis).name);
                    return self.error("V0104", text, dim.span, "no fixed size");
                };
                if shape.axes.contains(axis) {
                    let text = format!("`{}` would have axis `{}` twice", learn.name.text, self.axis(*axis).name);
                    return self.error("V0208", text, dim.span, "second time");
                }
                flat = flat.saturating_mul(n);
                shape.expanded.push(n);
                shape.axes.push(*axis);
            }
            shape.stored.push(flat);
        }
        Ok(shape)
    }

    fn initial(&mut self, learn: &Learn, shape: &Shape, scope: &ScopeRef) -> Res<Init> {
        let value = self.eval(&learn.init, scope)?;
        let span = learn.init.span;
        let number = |v: &Value| match v {
            Value::Num(n) => Some(n.value.real()),
            _ => None,
        };
        if learn.drawn {
            let (dist, parameters) = match &value {
                Value::Dist(dist, parameters) => (*dist, parameters.iter().map(number).collect::<Option<Vec<f64>>>()),
                Value::Interval(i) => (Dist::Uniform, [number(&i.lo), number(&i.hi)].into_iter().collect()),
                other => {
                    let d = Diagnostic::error(
                        "V0104",
                        format!("`~` draws from a distribution, found {}", other.kind()),
                        span,
                        "not a distribution",
                    );
                    return Err(self.fail(d.help("write `= 0` for a constant, `~ trunc_normal(0.02)` for a draw")));
                }
            };
            return match parameters {
                Some(p) => Ok(Init::Drawn(dist, p)),
                None => {
                    self.error("V0104", "the distribution of initial weights has fixed parameters", span, "not fixed")
                }
            };
        }
        match &value {
            Value::Num(Num { value, .. }) => Ok(Init::Constant(value.real())),
            v if super::elementwise::is_tensor(v) => {
                let t = self.tensor(v, span)?;
                self.computed(learn, t, shape, span)
            }
            other => self.error(
                "V0104",
                format!("`{}` starts as a number or a tensor, found {}", learn.name.text, other.kind()),
                span,
                "not a tensor",
            ),
        }
    }

    /// A computed start value must have the declared axes; a product axis may be given by its factors.
    fn computed(&mut self, learn: &Learn, t: Tensor, shape: &Shape, span: Span) -> Res<Init> {
        let mut t = t;
        for axis in &shape.axes {
            let factors = self.axis(*axis).factors.clone();
            if !t.axes.contains(axis) && !factors.is_empty() && factors.iter().all(|f| t.axes.contains(f)) {
                t = self.merged(&t, *axis, span);
            }
        }
        let fits = self.outer(&t) == Outer::One && t.loops.is_empty() && t.axes.iter().all(|a| shape.axes.contains(a));
        if !fits || !learn.trained && t.axes.len() != shape.axes.len() {
            let declared: Vec<String> =
                shape.axes.iter().map(|a| format!("{}: {}", self.axis(*a).name, self.show_size(*a))).collect();
            let text = format!(
                "`{}` is declared [{}], but its value is {}",
                learn.name.text,
                declared.join(", "),
                self.show(&t)
            );
            return self.error("V0209", text, span, "other axes");
        }
        Ok(Init::Computed(self.arranged(&t, &shape.axes, span).node))
    }
}
