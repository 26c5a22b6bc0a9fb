//! Instances: a definition with its settings, opened when one of its parts is needed.

use std::cell::RefCell;
use std::rc::Rc;

use super::eval::is_path;
use super::scope::{Scope, ScopeKind, ScopeRef, Thunk};
use super::settings::Arguments;
use super::value::{ChangeTo, Home, Instance, Maker, Num, Number, Role, SettingChange, Value, What};
use super::{Elab, Expansion, Res, suggest};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{Body, Def, DefValue, Expr, ExprKind, Kind, Stmt, StmtKind, Word};

/// Instances of one model; more is a mistake in a size.
const MAX_INSTANCES: usize = 1_000_000;

impl Elab<'_> {
    /// Makes an instance; its settings are computed when they are read.
    pub(super) fn instantiate(&mut self, maker: Maker, role: Option<Role>) -> Res<Rc<Instance>> {
        self.instances += 1;
        if self.instances > MAX_INSTANCES {
            return self.error(
                "V0105",
                "this model has more than a million parts",
                maker.span,
                "the last one made here",
            );
        }
        let mut alias = vec![];
        let header = match &maker.what {
            What::Builtin(record) => self.builtin_header(record, &maker)?,
            What::Def(closure) => {
                let closure = closure.clone();
                let def = &closure.def;
                let header = self.scope(ScopeKind::Header, Some(&closure.file));
                let preset: Vec<Rc<str>> = closure.changes.iter().map(|c| c.path[0].text.clone()).collect();
                let name = &def.name.text;
                let arguments = Arguments {
                    name,
                    formals: &def.formals,
                    args: &maker.args,
                    caller: &maker.scope,
                    preset: &preset,
                    lines: &closure.lines,
                    span: maker.span,
                };
                let bound = self.bind(&arguments, &header)?;
                alias = bound.alias;
                let given: Vec<Rc<str>> =
                    maker.args.iter().filter_map(|a| a.name.as_ref().map(|w| w.text.clone())).collect();
                for change in &closure.changes {
                    let ChangeTo::Value(value) = &change.what else {
                        let text = format!("only settings of `{name}` can be changed here");
                        return self.error("V0103", text, change.span, "not a setting");
                    };
                    if given.contains(&change.path[0].text) && change.path.len() == 1 {
                        continue;
                    }
                    let scope = self.scope(ScopeKind::Line(change.scope.clone()), Some(&header));
                    let change = SettingChange {
                        path: change.path.clone(),
                        value: value.clone(),
                        scope,
                        base: name.clone(),
                        span: change.span,
                    };
                    self.change_setting(&header, &mut alias, name, &change, true)?;
                }
                header
            }
        };
        let shown = match &maker.what {
            What::Def(c) => c.def.name.text.clone(),
            What::Builtin(r) => r.name.into(),
        };
        for change in &maker.changes {
            self.change_setting(&header, &mut alias, &shown, change, false)?;
        }
        if let What::Def(closure) = &maker.what {
            self.bind_factors(&shown, &closure.def.formals, &header, maker.span);
        }
        let instance = Rc::new(Instance {
            maker,
            header,
            alias: RefCell::new(alias),
            private: RefCell::default(),
            body: RefCell::default(),
            home: RefCell::default(),
            role,
            tensor: RefCell::default(),
        });
        self.private_copies(&instance);
        Ok(instance)
    }

    /// `linear(dim -> dim)`: the left name is a private copy of the axis.
    fn private_copies(&mut self, instance: &Rc<Instance>) {
        let What::Def(closure) = &instance.maker.what else { return };
        for formal in &closure.def.formals {
            let [left, right] = &formal.names[..] else { continue };
            let (Some(l), Some(r)) = (instance.header.get(&left.text), instance.header.get(&right.text)) else {
                continue;
            };
            let (name, weak) = (left.text.clone(), Rc::downgrade(instance));
            instance.header.set(
                &left.text,
                self.thunk(move |elab| {
                    let (a, b) = (l.force(elab)?, r.force(elab)?);
                    let (Value::Num(Num { axis: Some(x), .. }), Value::Num(Num { axis: Some(y), .. })) = (&a, &b)
                    else {
                        return Ok(a);
                    };
                    if x != y {
                        return Ok(a);
                    }
                    let shown = elab.axis(*x).name.clone();
                    let copy = elab.twin_axis(&shown, *x);
                    if let Some(instance) = weak.upgrade() {
                        instance.private.borrow_mut().push((name.clone(), copy, *x));
                    }
                    let Value::Num(n) = a else { return Ok(a) };
                    Ok(Value::Num(Num { axis: Some(copy), ..n }))
                }),
            );
        }
    }

    /// Applies one change to a header.
    fn change_setting(
        &mut self,
        header: &ScopeRef,
        alias: &mut Vec<Rc<str>>,
        what: &str,
        change: &SettingChange,
        own: bool,
    ) -> Res<()> {
        let head = &change.path[0];
        let Some(old) = header.get(&head.text) else {
            let known = header.names();
            let near = suggest::nearest(&head.text, known.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
            let text = if &*change.base == what {
                format!("`{what}` has no setting called `{}`", head.text)
            } else {
                format!("`{}` has no setting called `{}`", change.base, head.text)
            };
            let d = Diagnostic::error("V0101", text, head.span, format!("not a setting of `{what}`")).maybe_help(near);
            let all: Vec<&str> = known.iter().map(|n| &**n).collect();
            return Err(self.fail(d.note(format!("`{what}` takes {}", all.join(", ")))));
        };
        let path: Rc<str> = format!("{}.{}", change.base, head.text).into();
        if change.path.len() > 1 {
            let rest = SettingChange { path: change.path[1..].to_vec(), base: path, ..change.clone() };
            header.set(
                &head.text,
                self.thunk(move |elab| {
                    let value = old.force(elab)?;
                    elab.amend(value, &rest)
                }),
            );
            return Ok(());
        }
        let name = own.then(|| head.text.clone());
        let kind = ScopeKind::Own { name, path: path.clone(), old: Some(old.clone()), written: change.scope.clone() };
        let scope = self.scope(kind, Some(&change.scope));
        header.set_origin(&head.text, &change.value, &change.scope);
        let (expr, setting) = (change.value.clone(), head.text.clone());
        alias.retain(|a| *a != head.text);
        if is_path(&expr) {
            alias.push(head.text.clone());
        }
        header.set(
            &head.text,
            self.thunk(move |elab| {
                let value = elab.eval(&expr, &scope)?;
                // The old value is only looked at for its kind; if it cannot be computed there is nothing to keep.
                let before = old.force(elab).ok();
                let value = elab.keep_kind(&path, before.as_ref(), value, expr.span)?;
                let value = match (before, value) {
                    (Some(Value::Num(_)), group @ Value::Group(_)) => elab.bound(&setting, group, expr.span)?,
                    (_, value) => value,
                };
                Ok(elab.as_setting(&setting, value, is_path(&expr)))
            }),
        );
        Ok(())
    }

    /// A second instance with the same settings and weights of its own.
    pub(super) fn copy(&mut self, of: &Rc<Instance>, role: Option<Role>) -> Rc<Instance> {
        self.instances += 1;
        Rc::new(Instance {
            maker: of.maker.clone(),
            header: of.header.clone(),
            alias: RefCell::new(of.alias.borrow().clone()),
            private: RefCell::new(of.private.borrow().clone()),
            body: RefCell::default(),
            home: RefCell::default(),
            role,
            tensor: RefCell::default(),
        })
    }

    /// The private copy of an axis, if a setting has one.
    pub(super) fn private_axis(
        &self,
        instance: &Instance,
        setting: &str,
    ) -> Option<(crate::model::AxisId, crate::model::AxisId)> {
        instance.private.borrow().iter().rev().find(|(n, ..)| &**n == setting).map(|(_, copy, of)| (*copy, *of))
    }

    /// The scope of an instance's fields; opening it checks that the definition does not contain itself, and what the
    /// block requires.
    pub(super) fn open(&mut self, instance: &Rc<Instance>, span: Span) -> Res<ScopeRef> {
        if let Some(body) = &*instance.body.borrow() {
            return Ok(body.clone());
        }
        let What::Def(closure) = &instance.maker.what else { return Ok(instance.header.clone()) };
        let (closure, def) = (closure.clone(), closure.def.clone());
        let DefValue::Body(stmts) = &def.value else {
            return self.error("V0111", format!("`{}` has no body", def.name.text), span, "cannot be opened");
        };
        let outside = self.at.place.clone();
        let opened = self.expand(&def, span, |elab| {
            elab.at.place = instance.place();
            let body = elab.scope(ScopeKind::Body(instance.clone()), Some(&instance.header));
            *instance.body.borrow_mut() = Some(body.clone());
            for stmt in &stmts.stmts {
                let inner = elab.line_scope(&closure, stmt.span, &body);
                elab.declare(&body, stmt, Some(instance), &inner)?;
            }
            if def.kind == Kind::Block {
                for stmt in &stmts.stmts {
                    if let StmtKind::Require(cond, message) = &stmt.kind {
                        let inner = elab.line_scope(&closure, stmt.span, &body);
                        elab.require(cond, message.as_ref(), &inner, instance)?;
                    }
                }
            }
            Ok(body)
        });
        self.at.place = outside;
        opened
    }

    /// Runs something inside the expansion of a definition, which must not contain itself.
    pub(super) fn expand<T>(&mut self, def: &Rc<Def>, span: Span, run: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        let outer = self.at.expanding.clone();
        let chain: Vec<Rc<Expansion>> = std::iter::successors(outer.clone(), |e| e.outer.clone()).collect();
        // A variant is put together anew where it is used; what it is, is where its name is written.
        if chain.iter().any(|e| e.def.name.span == def.name.span) {
            let chain: Vec<&str> = chain.iter().rev().map(|e| &*e.def.name.text).collect();
            let text = format!("`{}` contains itself", def.name.text);
            let d = Diagnostic::error("V0105", text, span, "expands into itself");
            let d = d.label(def.name.span, "defined here").note(format!("{} -> {}", chain.join(" -> "), def.name.text));
            return Err(self.fail(d));
        }
        self.at.expanding = Some(Rc::new(Expansion { def: def.clone(), outer: outer.clone() }));
        let result = run(self);
        self.at.expanding = outer;
        result
    }

    pub(super) fn require(
        &mut self,
        cond: &Rc<Expr>,
        message: Option<&Word>,
        body: &ScopeRef,
        instance: &Rc<Instance>,
    ) -> Res<()> {
        let ok = match self.eval(cond, body)? {
            Value::Bool(b) => b,
            other => {
                let text = format!("`require` needs true or false, found {}", other.kind());
                return self.error("V0104", text, cond.span, "not a truth value");
            }
        };
        if ok {
            return Ok(());
        }
        let text = match message {
            Some(m) => self.interpolate(m, body)?,
            None => format!("`{}` requires something that does not hold", instance.name()),
        };
        let d = self.unmet(text, &instance.name(), cond, body);
        let mut d = d.label(cond.span, "this does not hold");
        let place = instance.place();
        if !place.is_empty() && *place != *self.at.place {
            d = d.note(format!("in {place}"));
        }
        Err(self.fail(d))
    }

    /// `{dim}` in a message.
    fn interpolate(&mut self, message: &Word, scope: &ScopeRef) -> Res<String> {
        let mut out = String::new();
        let mut rest = &*message.text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else { break };
            out.push_str(before);
            match self.name(&name.into(), scope, message.span)? {
                Value::Num(n) => out.push_str(&super::units::show(n)),
                Value::Text(t) => out.push_str(&t),
                other => out.push_str(other.kind()),
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A setting or a field by name.
    pub(super) fn instance_field(&mut self, instance: &Rc<Instance>, name: &Word) -> Res<Value> {
        if let Some(thunk) = instance.header.get(&name.text) {
            return self.force_named(&thunk, &name.text, name.span);
        }
        let body = self.open(instance, name.span)?;
        match body.get(&name.text) {
            Some(thunk) => self.force_named(&thunk, &name.text, name.span),
            None => {
                let mut known = instance.header.names();
                known.extend(body.names());
                let what = instance.place();
                let what = if what.is_empty() { instance.name() } else { what };
                Err(self.no_field(&what, name, &known))
            }
        }
    }

    /// Declares the statements of a body as thunks.
    pub(super) fn fill(&mut self, scope: &ScopeRef, body: &Body, owner: Option<&Rc<Instance>>) -> Res<()> {
        for stmt in &body.stmts {
            self.declare(scope, stmt, owner, scope)?;
        }
        Ok(())
    }

    /// Declares one statement in `scope`; names in it are looked up in `inner`.
    pub(super) fn declare(
        &mut self,
        scope: &ScopeRef,
        stmt: &Rc<Stmt>,
        owner: Option<&Rc<Instance>>,
        inner: &ScopeRef,
    ) -> Res<()> {
        match &stmt.kind {
            StmtKind::Bind { targets, key, value, .. } => {
                if let [target] = &targets[..] {
                    if let [name] = &target.parts[..] {
                        self.declare_field(scope, name, key.as_ref(), value, owner, inner);
                        return Ok(());
                    }
                    let d = Diagnostic::error(
                        "V0103",
                        "only `with` can change a setting by its path",
                        target.span,
                        "a path",
                    );
                    return Err(self.fail(d.help("give the setting where the part is made")));
                }
                let whole = self.later(value, inner);
                let count = targets.len();
                for (i, target) in targets.iter().enumerate() {
                    let Some(name) = target.parts.first() else { continue };
                    let (whole, span) = (whole.clone(), value.span);
                    scope.set(
                        &name.text,
                        self.thunk(move |elab| match whole.force(elab)? {
                            Value::List(items) if items.len() == count => Ok(items[i].clone()),
                            Value::List(items) => {
                                let text = format!("{count} names are given, but this list has {} items", items.len());
                                elab.error("V0104", text, span, "as many names as items are needed")
                            }
                            other => elab.error(
                                "V0104",
                                format!("expected a list of {count} items, found {}", other.kind()),
                                span,
                                "not a list",
                            ),
                        }),
                    );
                }
            }
            StmtKind::Learn(learn) => {
                let name = learn.name.text.clone();
                let (stmt, inner, owner) = (stmt.clone(), inner.clone(), owner.cloned());
                scope.set(
                    &name,
                    self.thunk(move |elab| {
                        let StmtKind::Learn(learn) = &stmt.kind else { return Ok(Value::None) };
                        elab.learn(learn, &inner, owner.as_ref())
                    }),
                );
            }
            StmtKind::Draw { name, .. } => {
                let (stmt, inner) = (stmt.clone(), inner.clone());
                scope.set(
                    &name.text.clone(),
                    self.thunk(move |elab| {
                        let StmtKind::Draw { name, axes, from, per } = &stmt.kind else { return Ok(Value::None) };
                        elab.draw(name, axes, from, per.as_ref(), &inner)
                    }),
                );
            }
            StmtKind::Section(name, body) => {
                let section = self.scope(ScopeKind::Section, Some(scope));
                self.fill(&section, body, None)?;
                scope.set(&name.text, Thunk::ready(Value::Section(section)));
            }
            StmtKind::Metric(name, value) => {
                let key: Rc<str> = format!("metric {}", name.text).into();
                scope.set(&key, self.later(value, inner));
            }
            StmtKind::Require(..) | StmtKind::Forward(..) | StmtKind::Return(_) => {}
        }
        Ok(())
    }

    /// `name = value`: a number becomes an axis, an instance finds its home.
    fn declare_field(
        &mut self,
        scope: &ScopeRef,
        name: &Word,
        key: Option<&Word>,
        value: &Rc<Expr>,
        owner: Option<&Rc<Instance>>,
        inner: &ScopeRef,
    ) {
        scope.set_origin(&name.text, value, inner);
        let own = if Rc::ptr_eq(scope, inner) { Scope::skip(scope, &name.text) } else { inner.clone() };
        // What a line of a variant has replaced, and reads, keeps its place.
        let field: Rc<str> = name.text.split(' ').next().unwrap_or_default().into();
        let (expr, stored, owner) = (value.clone(), key.map(|k| k.text.clone()), owner.cloned());
        scope.set(
            &name.text,
            self.thunk(move |elab| {
                let value = elab.eval(&expr, &own)?;
                elab.check_sizes(&value, &expr, &own)?;
                let value = elab.bound(&field, value, expr.span)?;
                elab.adopt(value, owner.as_ref(), &field, stored.as_deref().unwrap_or(&field))
            }),
        );
        self.declare_factors(scope, &name.text, value);
    }

    /// A product of axes has whole sizes.
    pub(super) fn check_sizes(&mut self, value: &Value, expr: &Rc<Expr>, scope: &ScopeRef) -> Res<()> {
        let (Value::Group(items), ExprKind::Tuple(written)) = (value, &expr.kind) else { return Ok(()) };
        for ((label, v), item) in items.iter().zip(written) {
            if let (Some(label), Value::Num(Num { value: Number::Real(x), .. })) = (label, v)
                && *x > 1.0
            {
                let d = self.uneven(label, &item.value, scope, *x);
                return Err(self.fail(d));
            }
        }
        Ok(())
    }

    /// The labels of `tokens = (time: 8, rows: 14)` are names of the enclosing body too.
    pub(super) fn declare_factors(&mut self, scope: &ScopeRef, field: &Rc<str>, value: &Rc<Expr>) {
        let ExprKind::Tuple(items) = &value.kind else { return };
        for (i, item) in items.iter().enumerate() {
            let Some(label) = &item.name else { continue };
            if scope.get(&label.text).is_some() {
                continue;
            }
            let (scope_, field, span) = (scope.clone(), field.clone(), label.span);
            scope.set(
                &label.text,
                self.thunk(move |elab| {
                    let value = match scope_.get(&field) {
                        Some(t) => t.force(elab)?,
                        None => Value::None,
                    };
                    let axis = match value {
                        Value::Num(Num { axis: Some(a), .. }) => elab.axis(a).factors.get(i).copied(),
                        _ => None,
                    };
                    match axis {
                        Some(a) => {
                            let size = elab.size(a).unwrap_or(0) as i64;
                            Ok(Value::Num(Num { axis: Some(a), ..Num::whole(size) }))
                        }
                        None => elab.error("V0104", format!("`{field}` is not a product of axes"), span, "not an axis"),
                    }
                }),
            );
        }
    }

    /// Gives an instance, or the instances of a list, a home in a field.
    pub(super) fn adopt(&mut self, value: Value, owner: Option<&Rc<Instance>>, field: &str, key: &str) -> Res<Value> {
        let Some(home) = owner.and_then(|o| o.home.borrow().clone()) else { return Ok(value) };
        match value {
            Value::Instance(i) => Ok(Value::Instance(self.house(i, &home, field, key))),
            Value::Source(i) => Ok(Value::Source(self.house(i, &home, field, key))),
            Value::List(items) if items.iter().any(|v| matches!(v, Value::Instance(_) | Value::Source(_))) => {
                let mut out = vec![];
                for (n, v) in items.iter().enumerate() {
                    let list = Home {
                        place: join(&home.place, field),
                        key: join(&home.key, key),
                        root: root_of(&home, field),
                        ..home.clone()
                    };
                    out.push(match v {
                        Value::Instance(i) => {
                            Value::Instance(self.house(i.clone(), &list, &n.to_string(), &n.to_string()))
                        }
                        v => v.clone(),
                    });
                }
                Ok(Value::List(Rc::new(out)))
            }
            other => Ok(other),
        }
    }

    /// An instance of another model is copied: every model has its own weights.
    fn house(&mut self, instance: Rc<Instance>, home: &Home, field: &str, key: &str) -> Rc<Instance> {
        let elsewhere = instance.home.borrow().as_ref().map(|h| h.model != home.model);
        let instance = match elsewhere {
            Some(false) => return instance,
            Some(true) => self.copy(&instance, None),
            None => instance,
        };
        let role = instance.role.unwrap_or(home.role);
        let place = join(&home.place, field);
        if let Some(Role::Average(i)) = instance.role {
            let follower = &mut self.followers[i];
            if follower.name.is_empty() {
                follower.name = place.to_string();
            }
            follower.copies.push(instance.clone());
        }
        *instance.home.borrow_mut() =
            Some(Home { model: home.model, key: join(&home.key, key), root: root_of(home, field), place, role });
        instance
    }
}

fn root_of(home: &Home, field: &str) -> Rc<str> {
    if home.root.is_empty() { field.into() } else { home.root.clone() }
}

/// `a.b`; an empty name drops its level.
pub fn join(path: &str, name: &str) -> Rc<str> {
    match (path.is_empty(), name.is_empty()) {
        (true, _) => name.into(),
        (false, true) => path.into(),
        (false, false) => format!("{path}.{name}").into(),
    }
}

/// Bare names that an expression mentions.
pub fn names_in(expr: &Expr) -> Vec<Rc<str>> {
    let mut names = vec![];
    super::reads::visit(expr, &mut |e| {
        if let ExprKind::Name(n) = &e.kind
            && !names.contains(n)
        {
            names.push(n.clone());
        }
    });
    names
}
