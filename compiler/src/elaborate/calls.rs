//! Calls: what is called decides how.

use std::rc::Rc;

use super::forward::{Input, Renames};
use super::scope::{ScopeKind, ScopeRef};
use super::settings::Arguments;
use super::value::{Closure, Maker, Value, What};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::ir::graph::Outer;
use crate::model::{AxisId, Tap};
use crate::source::Span;
use crate::syntax::ast::{Arg, DefValue, Expr, ExprKind, Kind};

impl Elab<'_> {
    /// `f(args)`, `f[axes](args)`, `block[a -> b](x)`.
    pub(super) fn call(&mut self, f: &Rc<Expr>, args: &[Arg], scope: &ScopeRef, expr: &Rc<Expr>) -> Res<Value> {
        let span = expr.span;
        let mut axes: Option<Vec<Rc<Expr>>> = None;
        let mut renames: Renames = vec![];
        let callee = match &f.kind {
            ExprKind::Pick(base, items) => match self.eval(base, scope)? {
                v @ (Value::Def(_) | Value::Builtin(_)) => {
                    axes = Some(items.iter().map(|i| i.value.clone()).collect());
                    v
                }
                v @ (Value::Instance(_) | Value::List(_))
                    if items.iter().all(|i| matches!(i.value.kind, ExprKind::Arrow(_))) =>
                {
                    renames = self.renames(items)?;
                    v
                }
                v => self.pick_value(v, items, scope, f.span)?,
            },
            _ => self.eval(f, scope)?,
        };
        match &callee {
            Value::Def(closure) => self.call_definition(closure, axes, args, scope, span),
            Value::Builtin(name) => self.call_builtin(name, axes.as_deref(), args, scope, span),
            Value::Instance(_) | Value::List(_) => {
                if axes.is_some() {
                    return self.error("V0111", "a block takes no axes in brackets", f.span, "not a function");
                }
                let mut inputs = vec![];
                for arg in args {
                    let value = self.eval(&arg.value, scope)?;
                    inputs.push(Input { name: arg.name.as_ref().map(|w| w.text.clone()), value, span: arg.value.span });
                }
                let (value, each) = self.call_block(&callee, inputs, &renames, scope, span)?;
                self.tap_call(f, &value, scope);
                super::taps::note(f, || each.map_or_else(|| value.clone(), |all| Value::List(Rc::new(all))), scope);
                Ok(value)
            }
            other => {
                self.error("V0111", format!("{} cannot be called", other.kind()), f.span, "not a function or a block")
            }
        }
    }

    fn renames(&self, items: &[Arg]) -> Res<Renames> {
        let mut renames = vec![];
        for item in items {
            let ExprKind::Arrow(ends) = &item.value.kind else { continue };
            let from = match &ends[0].kind {
                ExprKind::Tuple(parts) => parts.iter().map(|p| p.value.clone()).collect(),
                _ => vec![ends[0].clone()],
            };
            renames.push((from, self.axis_name(&ends[1])?));
        }
        Ok(renames)
    }

    /// Calls of the model's own fields are kept for replay.
    fn tap_call(&mut self, f: &Rc<Expr>, value: &Value, scope: &ScopeRef) {
        let (ExprKind::Name(name), true) = (&f.kind, self.at_model_level(scope)) else { return };
        if let Value::Tensor(t) = value {
            self.taps.push(Tap { name: name.to_string(), call: true, node: t.node });
        }
    }

    fn call_definition(
        &mut self,
        closure: &Rc<Closure>,
        axes: Option<Vec<Rc<Expr>>>,
        args: &[Arg],
        scope: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        let name = &closure.def.name.text;
        match closure.def.kind {
            Kind::Fn => self.call_fn(closure, axes, args, scope, span),
            Kind::Block | Kind::Mask => {
                if axes.is_some() {
                    let d = Diagnostic::error(
                        "V0111",
                        format!("`{name}` takes its axes in parentheses"),
                        span,
                        "brackets are for functions",
                    );
                    return Err(self.fail(d.help(format!("write `{name}(...)`"))));
                }
                let closure = self.resolve(closure)?;
                let maker =
                    Maker { what: What::Def(closure), args: args.into(), scope: scope.clone(), span, changes: vec![] };
                Ok(Value::Instance(self.instantiate(maker, None)?))
            }
            Kind::Model => {
                let d = Diagnostic::error("V0111", "a model is not called", span, "not a function or a block");
                Err(self.fail(d.help(format!("use one of its fields: `{name}.encoder`"))))
            }
        }
    }

    /// Calls a function.
    fn call_fn(
        &mut self,
        closure: &Rc<Closure>,
        axes: Option<Vec<Rc<Expr>>>,
        args: &[Arg],
        caller: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        let def = closure.def.clone();
        let name = &def.name.text;
        let header = self.scope(ScopeKind::Header, Some(&closure.file));
        let arguments = Arguments { name, formals: &def.formals, args, caller, preset: &[], lines: &[], span };
        self.bind(&arguments, &header)?;
        // Arguments are computed before the function is entered: they belong to the caller.
        let mut pool = vec![];
        for (i, formal) in def.formals.iter().enumerate() {
            let given = i < args.iter().filter(|a| a.name.is_none()).count()
                || args.iter().any(|a| a.name.as_ref().is_some_and(|w| w.text == formal.names[0].text));
            if !given {
                continue;
            }
            for word in &formal.names {
                if let Some(thunk) = header.get(&word.text) {
                    pool.push(self.force_named(&thunk, &word.text, span)?);
                }
            }
        }
        let scope = self.scope(ScopeKind::Equations, Some(&header));
        match (&axes, def.axes.is_empty()) {
            (None, true) => {}
            (Some(items), true) => {
                let at = items.first().map_or(span, |i| i.span);
                return self.error("V0111", format!("`{name}` takes no axes"), at, "no axes are needed");
            }
            (None, false) => {
                let d = Diagnostic::error("V0111", format!("`{name}` needs to know which axis"), span, "no axis given");
                return Err(self.fail(d.help(format!("write `{name}[{}](...)`", def.axes[0].text))));
            }
            (Some(items), false) => self.bind_axis_parameters(closure, items, &pool, caller, &scope, span)?,
        }
        let outside = self.enter(span);
        let result = self.expand(&def, span, |elab| match &def.value {
            DefValue::Expr(e) => elab.eval(e, &scope),
            DefValue::Body(body) => elab.run_body(body, &scope),
        });
        self.at = outside;
        result
    }

    fn bind_axis_parameters(
        &mut self,
        closure: &Rc<Closure>,
        items: &[Rc<Expr>],
        pool: &[Value],
        caller: &ScopeRef,
        scope: &ScopeRef,
        span: Span,
    ) -> Res<()> {
        let def = &closure.def;
        let mut found: Vec<Vec<AxisId>> = vec![];
        for item in items {
            let name = self.axis_name(item)?;
            let mut result = None;
            for value in pool {
                if !super::elementwise::is_tensor(value) {
                    continue;
                }
                let t = self.tensor(value, span)?;
                match self.axes_of(&name, &t, caller, item.span) {
                    Ok(axes) => {
                        result = Some(Ok(axes));
                        break;
                    }
                    Err(e) => result = result.or(Some(Err(e))),
                }
            }
            found.push(match result {
                Some(axes) => axes?,
                None => match self.axes_named(&name, caller)? {
                    Some(axes) => axes,
                    None => {
                        return self.error(
                            "V0204",
                            format!("there is no axis called `{name}` here"),
                            item.span,
                            "not an axis",
                        );
                    }
                },
            });
        }
        if let [only] = &def.axes[..] {
            let all = found.concat();
            scope.set(&only.text, super::value::ready(Value::Axes(Rc::new(all))));
            return Ok(());
        }
        if found.len() != def.axes.len() {
            let text = format!("`{}` takes {} axes, not {}", def.name.text, def.axes.len(), found.len());
            return self.error("V0108", text, span, "wrong number of axes");
        }
        for (word, axes) in def.axes.iter().zip(found) {
            if let [axis] = axes[..] {
                scope.set_label(&word.text, axis);
            }
            scope.set(&word.text, super::value::ready(Value::Axes(Rc::new(axes))));
        }
        Ok(())
    }

    /// Model-level values worth keeping: tensors that belong to clips.
    pub(super) fn is_tap(&self, value: &Value) -> Option<crate::model::NodeId> {
        match value {
            Value::Tensor(t) | Value::Packed(_, t, _) if self.outer(t) != Outer::One => Some(t.node),
            _ => None,
        }
    }
}
