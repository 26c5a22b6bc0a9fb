//! Names: scopes, and values that are computed when they are first read.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::value::{Instance, Value};
use super::{Context, Elab, Res, Stop};
use crate::model::AxisId;
use crate::syntax::ast::Expr;

/// A value that is computed when it is first read.
pub struct Thunk {
    state: RefCell<State>,
}
/// Shared thunk.
pub type ThunkRef = Rc<Thunk>;
/// How a thunk gets its value.
pub type Recipe = Rc<dyn Fn(&mut Elab) -> Res<Value>>;

enum State {
    Pending(Recipe, Context),
    Busy,
    Ready(Value),
}

impl fmt::Debug for Thunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thunk")
    }
}

impl Thunk {
    /// A value that is already known.
    pub fn ready(value: Value) -> ThunkRef {
        Rc::new(Thunk { state: RefCell::new(State::Ready(value)) })
    }

    /// The value if it is known already.
    pub fn peek(&self) -> Option<Value> {
        match &*self.state.borrow() {
            State::Ready(v) => Some(v.clone()),
            State::Pending(..) | State::Busy => None,
        }
    }

    /// The value. A thunk that fails can be tried again; one that needs itself is a cycle.
    pub fn force(&self, elab: &mut Elab) -> Res<Value> {
        let (recipe, context) = match &*self.state.borrow() {
            State::Ready(v) => return Ok(v.clone()),
            State::Busy => return Err(Stop::Cycle),
            State::Pending(r, c) => (r.clone(), c.clone()),
        };
        *self.state.borrow_mut() = State::Busy;
        let outside = std::mem::replace(&mut elab.at, context.clone());
        let result = recipe(elab);
        elab.at = outside;
        *self.state.borrow_mut() = match &result {
            Ok(v) => State::Ready(v.clone()),
            Err(_) => State::Pending(recipe, context),
        };
        result
    }
}

/// Shared scope.
pub type ScopeRef = Rc<Scope>;

/// Names and axis labels of one level.
pub struct Scope {
    /// What kind of level.
    pub kind: ScopeKind,
    /// The next level out.
    pub parent: Option<ScopeRef>,
    names: RefCell<Vec<(Rc<str>, ThunkRef)>>,
    labels: RefCell<Vec<(Rc<str>, AxisId)>>,
    origins: RefCell<Vec<Origin>>,
    /// Calls of parts in these equations: the name that was called and what came back.
    calls: RefCell<Vec<(Rc<str>, Value)>>,
}

/// A setting, the expression that gives its value, and the scope of that expression.
type Origin = (Rc<str>, Rc<Expr>, ScopeRef);

/// What kind of level a scope is.
#[derive(Clone, Debug)]
pub enum ScopeKind {
    /// A file: index into `Elab::modules`.
    File(usize),
    /// Settings of an instance, inputs of a function.
    Header,
    /// Fields of an instance.
    Body(Rc<Instance>),
    /// Equations of a function or a `forward`.
    Equations,
    /// `train { ... }`
    Section,
    /// Variables of a comprehension.
    Loop,
    /// The value of this name in that scope is being computed: the name means what it means further out.
    Skip(ScopeRef, Rc<str>),
    /// An override: the name and the path mean the value before, else what they mean in the scope where the line stands.
    Own {
        /// Bare name.
        name: Option<Rc<str>>,
        /// Full path.
        path: Rc<str>,
        /// The value before.
        old: Option<ThunkRef>,
        /// Where the line stands.
        written: ScopeRef,
    },
    /// An override: fields of the parent first, then the scope where the line stands.
    Dual(ScopeRef),
    /// The same for a line of a variant of a block or mask; the file of the base comes last.
    Line(ScopeRef),
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope")
    }
}

impl Scope {
    /// An empty scope.
    pub fn new(kind: ScopeKind, parent: Option<&ScopeRef>) -> ScopeRef {
        Rc::new(Scope {
            kind,
            parent: parent.cloned(),
            names: RefCell::default(),
            labels: RefCell::default(),
            origins: RefCell::default(),
            calls: RefCell::default(),
        })
    }

    /// A scope in which `name` of `of` is being computed.
    pub fn skip(of: &ScopeRef, name: &Rc<str>) -> ScopeRef {
        Scope::new(ScopeKind::Skip(of.clone(), name.clone()), Some(of))
    }

    /// Drops everything that it holds.
    pub fn clear(&self) {
        self.names.borrow_mut().clear();
        self.origins.borrow_mut().clear();
        self.calls.borrow_mut().clear();
    }

    /// Sets or replaces a name.
    pub fn set(&self, name: &Rc<str>, thunk: ThunkRef) {
        let mut names = self.names.borrow_mut();
        match names.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1 = thunk,
            None => names.push((name.clone(), thunk)),
        }
    }

    /// Remembers which expression gives a setting its value; later ones win.
    pub fn set_origin(&self, name: &Rc<str>, expr: &Rc<Expr>, scope: &ScopeRef) {
        self.origins.borrow_mut().push((name.clone(), expr.clone(), scope.clone()));
    }

    /// The expression that gives a setting its value, and its scope.
    pub fn origin(&self, name: &str) -> Option<(Rc<Expr>, ScopeRef)> {
        self.origins.borrow().iter().rev().find(|(n, ..)| &**n == name).map(|(_, e, s)| (e.clone(), s.clone()))
    }

    /// A name of this very level.
    pub fn get(&self, name: &str) -> Option<ThunkRef> {
        self.names.borrow().iter().find(|(n, _)| &**n == name).map(|(_, t)| t.clone())
    }

    /// Names of this level, in order.
    pub fn names(&self) -> Vec<Rc<str>> {
        self.names.borrow().iter().map(|(n, _)| n.clone()).collect()
    }

    /// Gives an axis a label at this level.
    pub fn set_label(&self, name: &Rc<str>, axis: AxisId) {
        let mut labels = self.labels.borrow_mut();
        match labels.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1 = axis,
            None => labels.push((name.clone(), axis)),
        }
    }

    /// Notes that a part was called in these equations.
    pub fn note_call(&self, name: &Rc<str>, result: Value) {
        self.calls.borrow_mut().push((name.clone(), result));
    }

    /// What each call of a part gave.
    pub fn calls_of(&self, name: &str) -> Vec<Value> {
        self.calls.borrow().iter().filter(|(n, _)| &**n == name).map(|(_, v)| v.clone()).collect()
    }

    /// Names of the parts that were called, in order.
    pub fn called(&self) -> Vec<Rc<str>> {
        let mut names: Vec<Rc<str>> = vec![];
        for (name, _) in self.calls.borrow().iter() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// How many calls were noted.
    pub fn call_count(&self) -> usize {
        self.calls.borrow().len()
    }

    /// Forgets calls beyond the first `count`: what they were made for is evaluated again.
    pub fn forget_calls(&self, count: usize) {
        self.calls.borrow_mut().truncate(count);
    }

    /// The axis that a label means, looking outwards as far as the file.
    pub fn label(&self, name: &str) -> Option<AxisId> {
        if let Some((_, a)) = self.labels.borrow().iter().find(|(n, _)| &**n == name) {
            return Some(*a);
        }
        self.parent.as_ref().and_then(|p| p.label(name))
    }

    /// The labels of this level.
    pub fn own_label(&self, name: &str) -> Option<AxisId> {
        self.labels.borrow().iter().find(|(n, _)| &**n == name).map(|(_, a)| *a)
    }

    /// A name, looking outwards but not into a file.
    pub fn field(&self, name: &str) -> Option<ThunkRef> {
        let mut skipped: Vec<*const Scope> = vec![];
        let mut at = self;
        loop {
            match &at.kind {
                ScopeKind::File(_) => return None,
                ScopeKind::Dual(written) | ScopeKind::Line(written) => {
                    let inner = at.parent.as_ref().and_then(|p| p.field(name));
                    return inner.or_else(|| written.field(name));
                }
                ScopeKind::Skip(of, n) if &**n == name => skipped.push(Rc::as_ptr(of)),
                ScopeKind::Own { name: Some(n), old, .. } if &**n == name => return old.clone(),
                _ if skipped.contains(&std::ptr::from_ref(at)) => {}
                _ => {
                    if let Some(t) = at.get(name) {
                        return Some(t);
                    }
                }
            }
            at = at.parent.as_deref()?;
        }
    }
}

/// The equations that a scope lies in, if any.
pub fn equations(scope: &ScopeRef) -> Option<ScopeRef> {
    let mut at = scope.clone();
    loop {
        match &at.kind {
            ScopeKind::Equations => return Some(at),
            ScopeKind::File(_) | ScopeKind::Header | ScopeKind::Body(_) | ScopeKind::Section => return None,
            ScopeKind::Loop | ScopeKind::Skip(..) | ScopeKind::Own { .. } | ScopeKind::Dual(_) | ScopeKind::Line(_) => {
                at = at.parent.clone()?
            }
        }
    }
}

/// The level at which new axis labels belong: the nearest body.
pub fn home_of_labels(scope: &ScopeRef) -> ScopeRef {
    let mut at = scope.clone();
    loop {
        match (&at.kind, &at.parent) {
            (
                ScopeKind::Skip(..) | ScopeKind::Own { .. } | ScopeKind::Dual(_) | ScopeKind::Line(_) | ScopeKind::Loop,
                Some(p),
            ) => at = p.clone(),
            _ => return at,
        }
    }
}

impl Elab<'_> {
    /// A value to be computed when it is read, as if at the place where it is written.
    pub fn thunk(&self, recipe: impl Fn(&mut Elab) -> Res<Value> + 'static) -> ThunkRef {
        Rc::new(Thunk { state: RefCell::new(State::Pending(Rc::new(recipe), self.at.clone())) })
    }

    /// What a name means.
    pub fn find(&self, scope: &ScopeRef, name: &str) -> Option<ThunkRef> {
        let mut skipped: Vec<*const Scope> = vec![];
        let mut at = scope;
        loop {
            match &at.kind {
                ScopeKind::File(module) => return self.file_name(*module, name),
                ScopeKind::Skip(of, n) => {
                    if &**n == name {
                        skipped.push(Rc::as_ptr(of));
                    }
                }
                ScopeKind::Own { name: Some(n), old, written, .. } if &**n == name => {
                    return old.clone().or_else(|| self.find(written, name));
                }
                ScopeKind::Dual(written) => {
                    let inner = at.parent.as_ref().and_then(|p| p.field(name));
                    return inner.or_else(|| self.find(written, name));
                }
                ScopeKind::Line(written) => {
                    let inner = at.parent.as_ref().and_then(|p| p.field(name));
                    if let Some(found) = inner.or_else(|| self.find(written, name)) {
                        return Some(found);
                    }
                }
                _ => {
                    if !skipped.contains(&Rc::as_ptr(at))
                        && let Some(t) = at.get(name)
                    {
                        return Some(t);
                    }
                }
            }
            at = at.parent.as_ref()?;
        }
    }

    /// All names that could have been meant.
    pub fn names_in_scope(&self, scope: &ScopeRef) -> Vec<Rc<str>> {
        let mut all = vec![];
        let mut at = Some(scope.clone());
        while let Some(s) = at {
            match &s.kind {
                // Names with a blank are not the user's.
                ScopeKind::Header | ScopeKind::Body(_) => {
                    all.extend(s.names().into_iter().filter(|n| !n.contains(' ')));
                }
                ScopeKind::File(module) => all.extend(self.file_names(*module)),
                ScopeKind::Dual(written) | ScopeKind::Line(written) => all.extend(self.names_in_scope(written)),
                _ => all.extend(s.names()),
            }
            at = s.parent.clone();
        }
        all
    }

    /// The value before, if this path is being overridden around here.
    pub fn own_path(&self, scope: &ScopeRef, path: &str) -> Option<ThunkRef> {
        let mut at = Some(scope);
        while let Some(s) = at {
            if let ScopeKind::Own { path: p, old: Some(old), .. } = &s.kind
                && &**p == path
            {
                return Some(old.clone());
            }
            at = s.parent.as_ref();
        }
        None
    }
}
