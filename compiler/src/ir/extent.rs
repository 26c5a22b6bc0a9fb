//! Sums of extents, compared by what they count rather than by how they were written.

use super::graph::{CountId, CountKind, Extent, Outer, Tables};

/// A sum of extents: a fixed part and basic counts (context or target tokens), each with how often it occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The static part.
    pub fixed: usize,
    /// Basic counts in ascending order.
    pub counts: Vec<(CountId, usize)>,
}

impl Total {
    /// The sum of `extents`.
    pub fn of(tables: &Tables, extents: &[Extent]) -> Total {
        let mut total = Total::default();
        for e in extents {
            total.add(tables, *e);
        }
        total
    }

    fn add(&mut self, tables: &Tables, extent: Extent) {
        let c = match extent {
            Extent::Static(n) => {
                self.fixed += n;
                return;
            }
            Extent::Counted(c) => c,
        };
        match &tables.counts[c.0 as usize].kind {
            CountKind::Context(_) | CountKind::Target(_) => match self.counts.binary_search_by_key(&c, |p| p.0) {
                Ok(i) => self.counts[i].1 += 1,
                Err(i) => self.counts.insert(i, (c, 1)),
            },
            CountKind::Sum(a, b) => {
                let (a, b) = (*a, *b);
                self.add(tables, Extent::Counted(a));
                self.add(tables, Extent::Counted(b));
            }
            CountKind::Plus(a, n) => {
                self.fixed += n;
                let a = *a;
                self.add(tables, Extent::Counted(a));
            }
        }
    }

    /// What is left after taking `other` away, if it is certain to be no less than nothing.
    pub fn minus(&self, other: &Total) -> Option<Total> {
        let mut rest = self.clone();
        rest.fixed = rest.fixed.checked_sub(other.fixed)?;
        for (c, n) in &other.counts {
            let i = rest.counts.binary_search_by_key(c, |p| p.0).ok()?;
            rest.counts[i].1 = rest.counts[i].1.checked_sub(*n)?;
        }
        rest.counts.retain(|p| p.1 > 0);
        Some(rest)
    }

    /// As one extent: static, or a count of the tables with the same parts.
    pub fn extent(&self, tables: &Tables) -> Option<Extent> {
        if self.counts.is_empty() {
            return Some(Extent::Static(self.fixed));
        }
        (0..tables.counts.len() as u32).map(|i| Extent::Counted(CountId(i))).find(|e| Total::of(tables, &[*e]) == *self)
    }
}

/// The larger of two outers; none if they are segments of different sets.
pub fn larger(a: Outer, b: Outer) -> Option<Outer> {
    match (a, b) {
        (Outer::One, o) | (o, Outer::One) => Some(o),
        (Outer::Clips, o) | (o, Outer::Clips) => Some(o),
        (Outer::Segments(s), Outer::Segments(t)) => (s == t).then_some(a),
    }
}

/// True if a value with outer `small` can be repeated into `large`.
pub fn fits(small: Outer, large: Outer) -> bool {
    larger(small, large) == Some(large)
}

/// The outer that a block with these extents has at least.
pub fn outer_of(tables: &Tables, extents: &[Extent]) -> Outer {
    extents
        .iter()
        .find_map(|e| match e {
            Extent::Static(_) => None,
            Extent::Counted(c) => Some(Outer::Segments(tables.set_of(*c))),
        })
        .unwrap_or(Outer::One)
}
