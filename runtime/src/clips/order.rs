//! Which item each slot of each step takes.
//!
//! Slot j of step s (from 1) takes item (s - 1) * batch + j of an endless sequence of permutations of the list; epoch
//! e's permutation is keyed by (seed, e). Several lists are joined, so that each counts by its number of items, or have
//! shares: then the list is drawn by its share and the item from it, both with replacement. What replaces an unreadable
//! item is drawn likewise, keyed by (seed, step, slot, attempt).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use vjepac::ir::philox::Stream;

use super::index::{Index, Item};
use crate::error::{Error, Result};

/// Permutations that are kept: slots in flight reach over few epochs, unless the list is shorter than a batch.
const KEPT_EPOCHS: usize = 4;

/// The items of all lists, and the rule that picks one.
pub struct Order {
    items: Vec<Item>,
    /// Upper ends of the cumulative shares and the first item of each list, where there are shares.
    shares: Vec<(f64, usize)>,
    seed: u64,
    batch: u64,
    epochs: Mutex<BTreeMap<u64, Arc<Vec<u32>>>>,
}

impl Order {
    /// Lists with their shares: all have one, or none has.
    pub fn new(data: Vec<(Index, Option<f64>)>, seed: u64, batch: usize) -> Result<Order> {
        if batch == 0 {
            return Err(Error::failed("a batch of 0 clips; `train.batch` is at least 1"));
        }
        let with_share = data.iter().filter(|d| d.1.is_some()).count();
        if with_share != 0 && with_share != data.len() {
            return Err(Error::failed("some data have a share and some have none; give all of them one, or none"));
        }
        let total: f64 = data.iter().filter_map(|d| d.1).sum();
        if data.iter().any(|d| d.1.is_some_and(|s| !(s.is_finite() && s >= 0.0))) || (with_share > 0 && total <= 0.0) {
            return Err(Error::failed("the shares of data are positive numbers"));
        }
        let mut items = Vec::new();
        let mut shares = Vec::new();
        let mut sum = 0.0;
        for (index, share) in data {
            if let Some(share) = share {
                sum += share / total;
                shares.push((sum, items.len()));
            }
            items.extend(index.items);
        }
        if items.is_empty() || items.len() > u32::MAX as usize {
            return Err(Error::failed(format!("{} items in the data; expected 1 to {}", items.len(), u32::MAX)));
        }
        Ok(Order { items, shares, seed, batch: batch as u64, epochs: Mutex::default() })
    }

    /// All items, list after list.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The place in [`Order::items`] that a slot takes at first (attempt 0), or instead of unreadable ones.
    pub fn pick(&self, step: u64, slot: u64, attempt: u32) -> usize {
        if attempt > 0 || !self.shares.is_empty() {
            let stream = Stream::new(self.seed, step, Some(slot), "clips.item", attempt);
            let (list, item) = stream.pair(0, 0);
            let (first, count) = self.list_at(list);
            return first + below(item, count);
        }
        let place = (step - 1) * self.batch + slot;
        let n = self.items.len() as u64;
        self.epoch(place / n)[(place % n) as usize] as usize
    }

    /// First item and number of items of the list that a uniform number falls on.
    fn list_at(&self, uniform: f64) -> (usize, usize) {
        let Some(last) = self.shares.len().checked_sub(1) else { return (0, self.items.len()) };
        // A list without a share is never drawn: its upper end equals that of the list before it.
        let list = self.shares.partition_point(|s| s.0 <= uniform).min(last);
        let end = self.shares.get(list + 1).map_or(self.items.len(), |s| s.1);
        (self.shares[list].1, end - self.shares[list].1)
    }

    fn epoch(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut kept = self.epochs.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(order) = kept.get(&epoch) {
            return order.clone();
        }
        let stream = Stream::new(self.seed, epoch, None, "clips.order", 0);
        let order: Arc<Vec<u32>> =
            Arc::new(stream.permutation(self.items.len()).into_iter().map(|i| i as u32).collect());
        kept.insert(epoch, order.clone());
        if kept.len() > KEPT_EPOCHS {
            kept.pop_first();
        }
        order
    }
}

/// A whole number below `count` from a uniform one.
pub fn below(uniform: f64, count: usize) -> usize {
    ((uniform * count as f64) as usize).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::index::Media;
    use super::*;

    fn index(name: &str, n: usize) -> Index {
        let item = |i| Item { path: format!("{name}/{i}").into(), label: None, media: Media::Video };
        Index { name: name.into(), items: (0..n).map(item).collect(), classes: vec![] }
    }

    fn picks(order: &Order, batch: u64, steps: std::ops::RangeInclusive<u64>) -> Vec<usize> {
        steps.flat_map(|s| (0..batch).map(move |j| (s, j))).map(|(s, j)| order.pick(s, j, 0)).collect()
    }

    #[test]
    fn every_epoch_is_a_permutation_of_its_own() {
        let order = Order::new(vec![(index("a", 4), None), (index("b", 3), None)], 1, 3).unwrap();
        let all = picks(&order, 3, 1..=7);
        let mut epochs: Vec<Vec<usize>> = all.chunks(7).map(<[usize]>::to_vec).collect();
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        for e in &mut epochs {
            e.sort_unstable();
            assert_eq!(*e, [0, 1, 2, 3, 4, 5, 6]);
        }
        // A list shorter than a batch, asked for out of order.
        let short = Order::new(vec![(index("a", 2), None)], 1, 40).unwrap();
        let forward = picks(&short, 40, 1..=1);
        let backward: Vec<usize> = (0..40).rev().map(|j| short.pick(1, j, 0)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
    }

    #[test]
    fn the_order_is_that_of_seed_and_step() {
        let of = |seed| picks(&Order::new(vec![(index("a", 50), None)], seed, 5).unwrap(), 5, 3..=9);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn shares_are_kept_on_average() {
        let data = vec![(index("a", 10), Some(3.0)), (index("b", 1000), Some(1.0)), (index("c", 5), Some(0.0))];
        let order = Order::new(data, 5, 8).unwrap();
        let all = picks(&order, 8, 1..=1000);
        let first = all.iter().filter(|p| **p < 10).count() as f64 / all.len() as f64;
        // Five standard errors of 8,000 draws.
        assert!((first - 0.75).abs() < 0.025, "{first}");
        assert!(all.iter().all(|p| *p < 1010));
    }

    #[test]
    fn replacements_depend_on_the_attempt() {
        let order = Order::new(vec![(index("a", 1000), None)], 1, 4).unwrap();
        let of: Vec<usize> = (0..4).map(|a| order.pick(2, 1, a)).collect();
        assert_eq!(of, (0..4).map(|a| order.pick(2, 1, a)).collect::<Vec<_>>());
        assert!(of.windows(2).all(|w| w[0] != w[1]), "{of:?}");
    }

    #[test]
    fn mixed_shares_are_refused() {
        assert!(Order::new(vec![(index("a", 1), None), (index("b", 1), Some(1.0))], 1, 4).is_err());
        assert!(Order::new(vec![(index("a", 1), Some(-1.0))], 1, 4).is_err());
    }
}
