//! Calling a block: its inputs' axes are bound, its equations are computed, and the result's axes get the caller's
//! names back.

use std::rc::Rc;

use super::scope::{ScopeKind, ScopeRef, Thunk};
use super::value::{Instance, Made, Num, Tensor, Value, What};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::model::AxisId;
use crate::source::Span;
use crate::syntax::ast::{Body, DefValue, Expr, ExprKind, Formal, FormalKind, StmtKind};

/// An input of a call.
pub struct Input {
    /// Name, if it was given by name.
    pub name: Option<Rc<str>>,
    /// Value.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
}

/// `attn[time -> tokens](x)`: caller's axes, name inside the block.
pub type Renames = Vec<(Vec<Rc<Expr>>, Rc<str>)>;

/// A call whose inputs are being bound.
struct Call<'a> {
    block: &'a Rc<Instance>,
    renames: &'a Renames,
    caller: &'a ScopeRef,
    /// Scope of the block's equations.
    scope: &'a ScopeRef,
    span: Span,
}

/// What binding inputs has found out.
#[derive(Default)]
struct Binding {
    /// Formal axis, actual axis: changed back in the result.
    back: Vec<(AxisId, AxisId)>,
}

impl Elab<'_> {
    /// Calls a block, or a list of blocks one after another; for a list also gives what each returned.
    pub(super) fn call_block(
        &mut self,
        callee: &Value,
        inputs: Vec<Input>,
        renames: &Renames,
        caller: &ScopeRef,
        span: Span,
    ) -> Res<(Value, Option<Vec<Value>>)> {
        match callee {
            Value::Instance(i) => Ok((self.forward(i, &inputs, renames, caller, span)?, None)),
            Value::List(blocks) => {
                let (mut inputs, mut each) = (inputs, vec![]);
                if inputs.is_empty() {
                    return self.error("V0108", "a list of blocks needs an input", span, "nothing to pass through");
                }
                for block in blocks.iter() {
                    let Value::Instance(i) = block else {
                        return self.error(
                            "V0111",
                            format!("{} in this list cannot be called", block.kind()),
                            span,
                            "not a block",
                        );
                    };
                    inputs[0].value = self.forward(i, &inputs, renames, caller, span)?;
                    each.push(inputs[0].value.clone());
                }
                Ok((inputs.swap_remove(0).value, Some(each)))
            }
            other => {
                self.error("V0111", format!("{} cannot be called", other.kind()), span, "not a function or a block")
            }
        }
    }

    /// Calls one block.
    pub(super) fn forward(
        &mut self,
        block: &Rc<Instance>,
        inputs: &[Input],
        renames: &Renames,
        caller: &ScopeRef,
        span: Span,
    ) -> Res<Value> {
        let name = block.name();
        let What::Def(closure) = &block.maker.what else {
            return self.error("V0111", format!("`{name}` cannot be called"), span, "not a block");
        };
        let (closure, def) = (closure.clone(), closure.def.clone());
        let DefValue::Body(stmts) = &def.value else {
            return self.error("V0111", format!("`{name}` has no body"), span, "cannot be called");
        };
        let forward = stmts.stmts.iter().find_map(|s| match &s.kind {
            StmtKind::Forward(formals, body) => Some((formals.clone(), body.clone(), s.span)),
            _ => None,
        });
        let Some((formals, body, written)) = forward else {
            let d = Diagnostic::error("V0111", format!("`{name}` has no `forward`"), span, "cannot be called");
            return Err(self.fail(d.label(def.name.span, "defined here")));
        };
        self.mark_used(block);
        let scope = self.open(block, span)?;
        let outside = self.enter(span);
        let scope = self.line_scope(&closure, written, &scope);
        let scope = self.scope(ScopeKind::Equations, Some(&scope));
        let call = Call { block, renames, caller, scope: &scope, span };
        let bound = self.bind_inputs(&call, &formals, inputs);
        let result = bound.and_then(|binding| {
            let place = block.place();
            let caller =
                if place.is_empty() { self.at.place.clone() } else { std::mem::replace(&mut self.at.place, place) };
            let result = self.expand(&def, span, |elab| elab.run_body(&body, &scope));
            self.at.place = caller;
            let mut result = self.unbind(result?, &binding.back, span);
            if let Value::Tensor(t) = &mut result {
                let back = vec![binding.back];
                t.made = Some(Rc::new(Made { scope: scope.clone(), block: name.clone(), back }));
            }
            Ok(result)
        });
        self.at = outside;
        result
    }

    /// Declares a body's equations and gives what it returns.
    pub(super) fn run_body(&mut self, body: &Body, scope: &ScopeRef) -> Res<Value> {
        self.fill(scope, body, None)?;
        for stmt in &body.stmts {
            if let StmtKind::Return(value) = &stmt.kind {
                return self.eval(value, scope);
            }
        }
        let d = Diagnostic::error("V0111", "this body returns nothing", body.span, "no `return`");
        Err(self.fail(d.help("end it with `return ...`")))
    }

    fn bind_inputs(&mut self, call: &Call, formals: &[Formal], inputs: &[Input]) -> Res<Binding> {
        let Call { block, scope, span, .. } = *call;
        let name = block.name();
        let mut given: Vec<Option<&Input>> = vec![None; formals.len()];
        let mut position = 0;
        for input in inputs {
            let index = match &input.name {
                None => {
                    position += 1;
                    position - 1
                }
                Some(n) => match formals.iter().position(|f| f.names[0].text == *n) {
                    Some(i) => i,
                    None => {
                        let near = super::suggest::nearest(n, formals.iter().map(|f| &*f.names[0].text));
                        let d = Diagnostic::error(
                            "V0101",
                            format!("`{name}` has no input called `{n}`"),
                            input.span,
                            "not an input",
                        );
                        let d = d.maybe_help(near.map(|n| format!("did you mean `{n}`?")));
                        return Err(self.fail(d.note(super::settings::takes(&name, formals))));
                    }
                },
            };
            match given.get_mut(index) {
                Some(slot) => *slot = Some(input),
                None => {
                    let text = format!("`{name}` takes {} inputs, not {}", formals.len(), inputs.len());
                    let d = Diagnostic::error("V0108", text, input.span, "one too many");
                    return Err(self.fail(d.note(super::settings::takes(&name, formals))));
                }
            }
        }
        let mut binding = Binding::default();
        for (formal, input) in formals.iter().zip(given) {
            let text = &formal.names[0].text;
            let Some(input) = input else {
                let Some(default) = &formal.default else {
                    let d = Diagnostic::error(
                        "V0108",
                        format!("`{name}` needs an input `{text}`"),
                        span,
                        format!("`{text}` is missing"),
                    );
                    return Err(self.fail(d.note(super::settings::takes(&name, formals))));
                };
                let outer = scope.parent.clone().unwrap_or_else(|| scope.clone());
                let value = match self.eval(default, &outer)? {
                    Value::Builtin("all") => Value::All,
                    v => v,
                };
                // With `keep: [context] in tokens = all` the name `context` stands for the whole axis.
                if let (Value::All, Some(FormalKind::Shape(shape, Some(of)))) = (&value, &formal.kind)
                    && let [item] = &shape[..]
                    && let Value::Num(Num { axis: Some(axis), .. }) = self.name(&of.text, &outer, of.span)?
                {
                    scope.set_label(&self.axis_name(item)?, axis);
                }
                scope.set(text, Thunk::ready(value));
                continue;
            };
            let value = match (&input.value, &formal.kind) {
                (Value::Builtin("all"), Some(FormalKind::Shape(shape, Some(of)))) => {
                    let outer = scope.parent.clone().unwrap_or_else(|| scope.clone());
                    if let [item] = &shape[..]
                        && let Value::Num(Num { axis: Some(axis), .. }) = self.name(&of.text, &outer, of.span)?
                    {
                        scope.set_label(&self.axis_name(item)?, axis);
                    }
                    Value::All
                }
                (Value::Tensor(_) | Value::Source(_) | Value::Stacked(..), Some(FormalKind::Shape(shape, of))) => {
                    let t = self.tensor(&input.value, input.span)?;
                    if let Some(of) = of {
                        self.check_index_set(block, &t, &of.text, text, input.span)?;
                    }
                    Value::Tensor(self.bind_axes(call, &t, shape, input.span, &mut binding)?)
                }
                (v, Some(FormalKind::Shape(..))) if !matches!(v, Value::None | Value::All) => {
                    let d = Diagnostic::error(
                        "V0108",
                        format!("`{name}` needs a tensor for `{text}`, found {}", v.kind()),
                        input.span,
                        "not a tensor",
                    );
                    let averaged = matches!(v, Value::Packed(..) | Value::List(_))
                        .then(|| "average it with `mean(...)`, or take one item with `x[0]`".to_string());
                    return Err(self.fail(d.maybe_help(averaged)));
                }
                (v, _) => v.clone(),
            };
            scope.set(text, Thunk::ready(value));
        }
        Ok(binding)
    }

    fn check_index_set(&mut self, block: &Rc<Instance>, t: &Tensor, of: &Rc<str>, input: &str, span: Span) -> Res<()> {
        let scope = self.open(block, span)?;
        let Value::Num(Num { axis: Some(want), .. }) = self.name(of, &scope, span)? else { return Ok(()) };
        match t.of {
            Some(found) if found == want => Ok(()),
            Some(found) => {
                let text = format!(
                    "these are indices into `{}` ({}), not into `{}` ({})",
                    self.axis(found).name,
                    self.show_size(found),
                    self.axis(want).name,
                    self.show_size(want)
                );
                self.error("V0207", text, span, "indices of another grid")
            }
            None => {
                let text = format!("`{input}` of `{}` must hold indices into `{of}`", block.name());
                self.error("V0207", text, span, format!("this is {}", self.show(t)))
            }
        }
    }

    /// Binds the axes that a header names: by the axis itself, by the caller's label, by name, by position.
    fn bind_axes(
        &mut self,
        call: &Call,
        t: &Tensor,
        shape: &[Rc<Expr>],
        span: Span,
        binding: &mut Binding,
    ) -> Res<Tensor> {
        let Call { block, renames, caller, scope, .. } = *call;
        let mut t = t.clone();
        let mut rest = t.axes.clone();
        // What is left to bind: name in the header, and its axis if it has a size.
        let mut free: Vec<(Rc<str>, Option<AxisId>)> = vec![];
        let mut pairs: Vec<(Rc<str>, AxisId, Option<AxisId>)> = vec![];
        for item in shape {
            let ExprKind::Name(label) = &item.kind else {
                return self.error("V0104", "a header lists names of axes", item.span, "not a name");
            };
            let outer = scope.parent.clone().unwrap_or_else(|| scope.clone());
            let value = match outer.field(label) {
                Some(thunk) => Some(self.force_named(&thunk, label, item.span)?),
                None => None,
            };
            match value {
                Some(v @ (Value::Axes(_) | Value::Group(_))) => {
                    for axis in self.group_axes(&v, item.span)? {
                        if !take(&mut rest, axis) {
                            return Err(self.lacks(block, &t, axis, span));
                        }
                    }
                }
                Some(Value::Num(Num { axis: Some(axis), .. })) => {
                    if let Some((copy, original)) = self.private_axis(block, label)
                        && take(&mut rest, original)
                    {
                        pairs.push((label.clone(), original, Some(copy)));
                    } else if take(&mut rest, axis) {
                    } else if block.alias.borrow().contains(label) {
                        return Err(self.lacks(block, &t, axis, span));
                    } else {
                        free.push((label.clone(), Some(axis)));
                    }
                }
                _ => match scope.own_label(label) {
                    Some(axis) if take(&mut rest, axis) => {}
                    Some(axis) => {
                        let text = format!("the inputs of `{}` disagree about axis `{label}`", block.name());
                        let note = format!("another input has `{}` there", self.axis(axis).name);
                        let d = Diagnostic::error("V0203", text, span, format!("this is {}", self.show(&t)));
                        return Err(self.fail(d.note(note)));
                    }
                    None => free.push((label.clone(), None)),
                },
            }
        }
        for (from, to) in renames {
            let Some(i) = free.iter().position(|(l, _)| l == to) else { continue };
            let sources = match self.joined_of(from, &t, caller)? {
                Some(joined) => vec![joined],
                None => self.listed_axes(from, &t, caller)?,
            };
            let [axis] = sources[..] else {
                return self.error("V0203", "a call renames one axis at a time", span, "several axes");
            };
            let (label, formal) = free.remove(i);
            take(&mut rest, axis);
            pairs.push((label, axis, formal));
        }
        // What the caller calls by that name, then what is displayed by that name.
        for by_name in [false, true] {
            for (label, formal) in free.clone() {
                let hit = if by_name {
                    rest.iter().rev().copied().find(|a| self.axis(*a).name == label)
                } else {
                    caller.label(&label).filter(|a| rest.contains(a) && formal.is_none_or(|f| self.same_size(*a, f)))
                };
                if let Some(axis) = hit {
                    take(&mut rest, axis);
                    free.retain(|(l, _)| *l != label);
                    pairs.push((label, axis, formal));
                }
            }
        }
        while let Some((label, formal)) = free.pop() {
            let Some(axis) = rest.last().copied() else {
                return Err(self.lacks_named(block, &t, &label, formal, span));
            };
            match formal {
                Some(f) if !self.same_size(axis, f) => return Err(self.lacks_named(block, &t, &label, formal, span)),
                None if rest.len() > 1 && self.size(axis).is_some() => {
                    let names: Vec<String> = rest.iter().map(|a| format!("`{}`", self.axis(*a).name)).collect();
                    let text = format!("`{label}` of `{}` could be any of {}", block.name(), names.join(", "));
                    let d = Diagnostic::error("V0203", text, span, format!("this is {}", self.show(&t)));
                    let help = format!("say which: `f[{} -> {label}](...)`", names[names.len() - 1].trim_matches('`'));
                    return Err(self.fail(d.help(help)));
                }
                _ => {}
            }
            rest.pop();
            pairs.push((label, axis, formal));
        }
        let mut swaps = vec![];
        for (label, actual, formal) in pairs {
            match formal {
                None => scope.set_label(&label, actual),
                Some(formal) => {
                    if !self.same_size(actual, formal) {
                        let text = format!(
                            "axis `{label}` has size {}, but `{}` was made for {}",
                            self.show_size(actual),
                            block.name(),
                            self.show_size(formal)
                        );
                        return self.error("V0203", text, span, format!("this is {}", self.show(&t)));
                    }
                    if actual != formal {
                        swaps.push((actual, formal));
                        binding.back.push((formal, actual));
                    }
                }
            }
        }
        t = self.relabel_all(&t, &swaps, span);
        Ok(t)
    }

    /// The joined axis of a tensor whose parts, in order, are called so.
    fn joined_of(&mut self, names: &[Rc<Expr>], t: &Tensor, caller: &ScopeRef) -> Res<Option<AxisId>> {
        if names.len() < 2 {
            return Ok(None);
        }
        let mut wanted = vec![];
        for item in names {
            let name = self.axis_name(item)?;
            let known = self.axes_named(&name, caller)?.and_then(|axes| (axes.len() == 1).then(|| axes[0]));
            wanted.push((name, known));
        }
        let fits = |elab: &Elab, axis: AxisId| {
            let parts = elab.all_parts(axis);
            let same = |(part, (name, known)): (&AxisId, &(Rc<str>, Option<AxisId>))| {
                *known == Some(*part) || elab.axis(*part).name == *name
            };
            parts.len() == wanted.len() && parts.iter().zip(&wanted).all(same)
        };
        Ok(t.axes.iter().copied().find(|a| fits(self, *a)))
    }

    /// The block works on an axis that the input does not have.
    fn lacks(&self, block: &Rc<Instance>, t: &Tensor, axis: AxisId, span: Span) -> super::Stop {
        let name = self.axis(axis).name.clone();
        self.lacks_named(block, t, &name, Some(axis), span)
    }

    fn lacks_named(
        &self,
        block: &Rc<Instance>,
        t: &Tensor,
        label: &str,
        formal: Option<AxisId>,
        span: Span,
    ) -> super::Stop {
        let shown = match formal {
            Some(a) => format!("`{}` ({})", self.axis(a).name, self.show_size(a)),
            None => format!("`{label}`"),
        };
        let place = block.place();
        let own = place.rsplit('.').next().filter(|p| !p.is_empty() && p.parse::<usize>().is_err());
        let who = own.map_or_else(|| block.name().to_string(), str::to_string);
        let text = format!("`{who}` works on axis {shown}, which its input does not have");
        let mut d = Diagnostic::error("V0203", text, span, format!("this is {}", self.show(t)));
        if !self.in_std(block.maker.span) {
            d = d.label(block.maker.span, format!("`{who}` is made here"));
        }
        if let Some(f) = formal {
            let same = t.axes.iter().find(|a| **a != f && self.same_size(**a, f));
            if let Some(a) = same {
                d = d.note(format!("axis `{}` has the same size, but it is another axis", self.axis(*a).name));
            }
        }
        self.fail(d)
    }

    /// Gives the result's axes the caller's names.
    fn unbind(&mut self, value: Value, back: &[(AxisId, AxisId)], span: Span) -> Value {
        if back.is_empty() {
            return value;
        }
        match value {
            Value::Tensor(t) => Value::Tensor(self.relabel_all(&t, back, span)),
            Value::List(items) => {
                let items = items.iter().map(|v| self.unbind(v.clone(), back, span)).collect();
                Value::List(Rc::new(items))
            }
            other => other,
        }
    }

    /// Remembers that the weights under a top-level field are used.
    pub(super) fn mark_used(&mut self, block: &Rc<Instance>) {
        if let Some(home) = block.home.borrow().as_ref() {
            let key = (home.model, home.root.clone());
            self.used.entry(key).or_insert_with(|| block.clone());
        }
    }
}

fn take(rest: &mut Vec<AxisId>, axis: AxisId) -> bool {
    match rest.iter().position(|a| *a == axis) {
        Some(i) => {
            rest.remove(i);
            true
        }
        None => false,
    }
}
