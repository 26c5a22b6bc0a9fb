//! Settings: arguments and defaults become thunks in a header scope.

use std::rc::Rc;

use super::eval::is_path;
use super::scope::{Scope, ScopeKind, ScopeRef, Thunk};
use super::value::{Line, Num, Number, Value};
use super::{Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::model::AxisId;
use crate::source::Span;
use crate::syntax::ast::{Arg, ExprKind, Formal, FormalKind};

/// What is to be bound.
pub struct Arguments<'a> {
    /// Name of the definition, for messages.
    pub name: &'a str,
    /// Its settings or inputs.
    pub formals: &'a [Formal],
    /// What the call gives.
    pub args: &'a [Arg],
    /// Scope of the call.
    pub caller: &'a ScopeRef,
    /// Settings that get a value elsewhere and need none here.
    pub preset: &'a [Rc<str>],
    /// Settings that a variant added: their defaults mean what they mean where it stands.
    pub lines: &'a [Line],
    /// The call.
    pub span: Span,
}

/// What binding found out besides the values.
#[derive(Default)]
pub struct Bound {
    /// Settings passed by name.
    pub alias: Vec<Rc<str>>,
}

impl Elab<'_> {
    /// Binds arguments to formals.
    pub(super) fn bind(&mut self, call: &Arguments, header: &ScopeRef) -> Res<Bound> {
        let Arguments { name, formals, args, caller, preset, lines, span } = *call;
        let given = self.match_args(name, formals, args)?;
        let mut bound = Bound::default();
        for (formal, arg) in formals.iter().zip(given) {
            let setting = &formal.names[0].text;
            if formal.names.len() > 1 {
                match (arg, &formal.default) {
                    (Some(arg), _) => self.bind_arrow(name, formal, arg, caller, header, &mut bound)?,
                    (None, Some(default)) => {
                        let arg = Arg { name: None, colon: false, value: default.clone() };
                        let scope = self.default_scope(lines, formal, header);
                        self.bind_arrow(name, formal, &arg, &scope, header, &mut bound)?;
                    }
                    (None, None) => return Err(self.missing(name, formal, span)),
                }
                continue;
            }
            match (arg, &formal.default) {
                (Some(arg), _) => {
                    if is_path(&arg.value) {
                        bound.alias.push(setting.clone());
                    }
                    self.set_setting(header, setting, &arg.value, caller.clone());
                }
                (None, Some(default)) => {
                    let scope = self.default_scope(lines, formal, &Scope::skip(header, setting));
                    self.set_setting(header, setting, default, scope);
                }
                (None, None) if preset.contains(setting) => {}
                (None, None) => return Err(self.missing(name, formal, span)),
            }
        }
        Ok(bound)
    }

    /// Where a default is evaluated: among the settings, and behind them where it is written.
    fn default_scope(&mut self, lines: &[Line], formal: &Formal, inner: &ScopeRef) -> ScopeRef {
        match lines.iter().find(|l| l.span == formal.span) {
            Some(line) => self.scope(ScopeKind::Line(line.scope.clone()), Some(inner)),
            None => inner.clone(),
        }
    }

    fn set_setting(&self, header: &ScopeRef, setting: &Rc<str>, value: &Rc<crate::syntax::ast::Expr>, scope: ScopeRef) {
        header.set_origin(setting, value, &scope);
        let (expr, name) = (value.clone(), setting.clone());
        header.set(
            setting,
            self.thunk(move |elab| {
                let value = elab.eval(&expr, &scope)?;
                Ok(elab.as_setting(&name, value, is_path(&expr)))
            }),
        );
    }

    /// A number passed by name keeps its axis; any other expression makes a new axis named after the setting.
    pub(super) fn as_setting(&mut self, name: &str, value: Value, by_name: bool) -> Value {
        match value {
            Value::Num(n) if !by_name => Value::Num(self.bound_number(name, n)),
            other => other,
        }
    }

    /// For each formal the argument that it gets.
    fn match_args<'e>(&self, name: &str, formals: &[Formal], args: &'e [Arg]) -> Res<Vec<Option<&'e Arg>>> {
        let mut given: Vec<Option<&Arg>> = vec![None; formals.len()];
        let mut position = 0;
        for arg in args {
            let index = match &arg.name {
                None => {
                    position += 1;
                    if position > formals.len() {
                        let d = Diagnostic::error(
                            "V0108",
                            format!("`{name}` takes {} inputs, not {}", formals.len(), args.len()),
                            arg.value.span,
                            "one too many",
                        );
                        return Err(self.fail(d.note(takes(name, formals))));
                    }
                    position - 1
                }
                Some(word) if arg.colon => {
                    let d = Diagnostic::error(
                        "V0001",
                        "settings are passed with `=`, not `:`",
                        word.span,
                        format!("write `{} = ...`", word.text),
                    );
                    return Err(self.fail(d.help(
                        "`:` gives a shape or a size, as in `x: [dim]` and `(part: 3, heads, d)`; `=` gives a value",
                    )));
                }
                Some(word) => {
                    let found = formals.iter().position(|f| f.names.len() == 1 && f.names[0].text == word.text);
                    match found {
                        Some(i) => i,
                        None => {
                            let all = formals.iter().flat_map(|f| f.names.iter().map(|w| &*w.text));
                            let near = suggest::nearest(&word.text, all).map(|n| format!("did you mean `{n}`?"));
                            let text = format!("`{name}` has no setting called `{}`", word.text);
                            let d = Diagnostic::error("V0101", text, word.span, format!("not a setting of `{name}`"));
                            return Err(self.fail(d.maybe_help(near).note(takes(name, formals))));
                        }
                    }
                }
            };
            if given[index].is_some() {
                let what = &formals[index].names[0].text;
                return self.error("V0108", format!("`{what}` is given twice"), arg.value.span, "second time");
            }
            given[index] = Some(arg);
        }
        Ok(given)
    }

    fn missing(&self, name: &str, formal: &Formal, span: Span) -> super::Stop {
        let what = show_formal(formal);
        self.fail(Diagnostic::error(
            "V0108",
            format!("`{name}` needs a value for `{what}`"),
            span,
            format!("`{what}` is missing"),
        ))
    }

    /// `linear(dim -> hidden)` against `i -> o`.
    fn bind_arrow(
        &mut self,
        name: &str,
        formal: &Formal,
        arg: &Arg,
        caller: &ScopeRef,
        header: &ScopeRef,
        bound: &mut Bound,
    ) -> Res<()> {
        let wanted = show_formal(formal);
        let count = formal.names.len();
        match &arg.value.kind {
            ExprKind::Arrow(ends) if ends.len() == count => {
                for (word, end) in formal.names.iter().zip(ends) {
                    if is_path(end) {
                        bound.alias.push(word.text.clone());
                    }
                    header.set_origin(&word.text, end, caller);
                    let (end, caller, name) = (end.clone(), caller.clone(), word.text.clone());
                    header.set(
                        &word.text,
                        self.thunk(move |elab| {
                            let value = elab.eval(&end, &caller)?;
                            match &value {
                                // A group is turned into axes once, so that weight and bias agree.
                                Value::Group(_) => Ok(Value::Axes(Rc::new(elab.group_axes(&value, end.span)?))),
                                _ => Ok(elab.as_setting(&name, value, is_path(&end))),
                            }
                        }),
                    );
                }
                Ok(())
            }
            _ => match self.eval(&arg.value, caller)? {
                Value::Arrow(ends) if ends.len() == count => {
                    for (word, end) in formal.names.iter().zip(ends.iter()) {
                        header.set(&word.text, Thunk::ready(end.clone()));
                    }
                    Ok(())
                }
                found => {
                    let text = format!("`{name}` needs {wanted} here, found {}", found.kind());
                    let d = Diagnostic::error("V0108", text, arg.value.span, "not such an arrow");
                    Err(self.fail(d.help(format!("write it as `{name}({wanted})` with values in place of the names"))))
                }
            },
        }
    }

    /// `tokens: (time, rows, cols)`: the factors of a product axis become names of the header.
    pub(super) fn bind_factors(&mut self, name: &Rc<str>, formals: &[Formal], header: &ScopeRef, span: Span) {
        for formal in formals {
            let Some(FormalKind::Group(factors)) = &formal.kind else { continue };
            let setting = formal.names[0].text.clone();
            let wanted = factors.len();
            for (i, factor) in factors.iter().enumerate() {
                let (owner, setting, header_) = (name.clone(), setting.clone(), header.clone());
                let all: Vec<String> = factors.iter().map(|f| f.text.to_string()).collect();
                header.set(
                    &factor.text,
                    self.thunk(move |elab| {
                        let axis = elab.product_axis(&header_, &setting)?;
                        let factors = axis.map(|a| elab.axis(a).factors.clone()).unwrap_or_default();
                        if factors.len() != wanted {
                            let text = format!(
                                "`{owner}` needs `{setting}` to be a product of {wanted} axes ({})",
                                all.join(", ")
                            );
                            let d = Diagnostic::error("V0104", text, span, "in this call");
                            return Err(elab.fail(d.help(format!(
                                "such as `{setting} = ({})`",
                                all.iter().map(|a| format!("{a}: 8")).collect::<Vec<_>>().join(", ")
                            ))));
                        }
                        let size = elab.size(factors[i]).unwrap_or(0) as i64;
                        Ok(Value::Num(Num { axis: Some(factors[i]), ..Num::whole(size) }))
                    }),
                );
            }
        }
    }

    /// The axis that a setting holds; a group passed in place becomes one.
    pub(super) fn product_axis(&mut self, header: &ScopeRef, setting: &Rc<str>) -> Res<Option<AxisId>> {
        let Some(thunk) = header.get(setting) else { return Ok(None) };
        match thunk.force(self)? {
            Value::Num(Num { axis, .. }) => Ok(axis),
            group @ Value::Group(_) => {
                let span = Span { file: crate::source::FileId(0), start: 0, end: 0 };
                match self.bound(setting, group, span)? {
                    Value::Num(n) => {
                        header.set(setting, Thunk::ready(Value::Num(n)));
                        Ok(n.axis)
                    }
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// A setting keeps its kind, its unit and its being whole when it is changed.
    pub(super) fn keep_kind(&self, path: &str, old: Option<&Value>, new: Value, span: Span) -> Res<Value> {
        let Some(old) = old else { return Ok(new) };
        match (old, new) {
            (Value::Num(a), Value::Num(b)) => {
                if a.unit.is_some() && b.unit.is_some() && a.unit != b.unit
                    || a.axis.is_some() && !a.unit.is_some() && b.unit.is_some()
                {
                    let (is, was) = (b.unit.name(), if a.unit.is_some() { a.unit.name() } else { "a plain number" });
                    let text = if a.unit.is_some() {
                        format!("`{path}` is measured in {was}, not in {is}")
                    } else {
                        format!("`{path}` is {was}, not a number of {is}")
                    };
                    let number = super::units::show(Num { unit: super::units::Unit::None, ..b });
                    let d = Diagnostic::error(
                        "V0301",
                        text,
                        span,
                        if a.unit.is_some() { format!("expected {was}") } else { "unexpected unit".into() },
                    );
                    let help = if a.unit.is_some() {
                        format!("write `{number} {was}`, or just `{number}`")
                    } else {
                        format!("write just `{number}`")
                    };
                    return Err(self.fail(d.help(help)));
                }
                if a.axis.is_some() && matches!(b.value, Number::Real(_)) {
                    let text = format!(
                        "`{path}` must be a whole number, but it is set to {}",
                        super::units::show_real(b.value.real())
                    );
                    let d = Diagnostic::error("V0104", text, span, "not a whole number");
                    return Err(self.fail(d.note(format!("it was {}", super::units::show(*a)))));
                }
                let unit = if b.unit.is_some() { b.unit } else { a.unit };
                Ok(Value::Num(Num { unit, ..b }))
            }
            // A grid of tokens is set as it is written: `(time: 2, rows: 4, cols: 4)`.
            (Value::Num(Num { axis: Some(a), .. }), new @ Value::Group(_)) if !self.axis(*a).factors.is_empty() => {
                Ok(new)
            }
            (Value::Num(a), new) => match new {
                Value::Schedule(_)
                | Value::Arrow(_)
                | Value::Interval(_)
                | Value::Tensor(_)
                | Value::Axes(_)
                | Value::None => Ok(new),
                _ => {
                    let text =
                        format!("`{path}` is a number ({}), but it is set to {}", super::units::show(*a), new.kind());
                    self.error("V0104", text, span, "not a number")
                }
            },
            (Value::Bool(_) | Value::Text(_) | Value::List(_), new)
                if old.kind() != new.kind() && !matches!(new, Value::Tensor(_)) =>
            {
                let text = format!("`{path}` is {}, but it is set to {}", old.kind(), new.kind());
                self.error("V0104", text, span, format!("not {}", old.kind()))
            }
            (Value::Def(_), new) if !matches!(new, Value::Def(_) | Value::Builtin(_)) => {
                let text = format!("`{path}` is a definition such as `mlp`, but it is set to {}", new.kind());
                self.error("V0104", text, span, "not a definition")
            }
            (_, new) => Ok(new),
        }
    }
}

/// `dim` or `i -> o`.
pub fn show_formal(formal: &Formal) -> String {
    formal.names.iter().map(|w| w.text.to_string()).collect::<Vec<_>>().join(" -> ")
}

/// `vit takes tokens, dim, depth`.
pub fn takes(name: &str, formals: &[Formal]) -> String {
    format!("`{name}` takes {}", formals.iter().map(show_formal).collect::<Vec<_>>().join(", "))
}
