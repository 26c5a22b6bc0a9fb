//! Random numbers that are a function of what they are for: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011).
//!
//! The 64-bit key is (seed mixed with the site string), by FNV-1a and the finaliser of SplitMix64. The 128-bit counter is
//! (element, redraw | attempt, clip, step):
//!
//! | word | holds |
//! |---|---|
//! | 0 | element of the block |
//! | 1 | redraw in the low 16 bits, attempt in the high 16 bits |
//! | 2 | place of the clip in the step's whole batch plus 1, or 0 for a draw that is one for the step |
//! | 3 | step |
//!
//! So a draw depends on nothing else: not on other draws, threads, ranks, micro-batches or where a run was continued.

/// A stream of draws for one site, step, clip and attempt.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
    attempt: u32,
    clip: u32,
    step: u32,
}

impl Stream {
    /// `clip` is the place in the step's whole batch, none for a draw that is one for the step.
    pub fn new(seed: u64, step: u64, clip: Option<u64>, site: &str, attempt: u32) -> Stream {
        let mut h = 0xcbf2_9ce4_8422_2325u64;
        for b in site.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // Steps and clips beyond 32 bits do not occur; their high halves still enter the key rather than vanish.
        let clip = clip.map_or(0, |c| c + 1);
        let key = mix(mix(seed) ^ h ^ mix((step >> 32) ^ ((clip >> 32) << 32)));
        Stream { key: [key as u32, (key >> 32) as u32], attempt, clip: clip as u32, step: step as u32 }
    }

    /// Two uniform numbers on [0, 1) with 53 random bits for an element; `redraw` counts rejected ones.
    pub fn pair(&self, element: u32, redraw: u32) -> (f64, f64) {
        let w = philox([element, (redraw & 0xffff) | (self.attempt << 16), self.clip, self.step], self.key);
        (unit(w[0], w[1]), unit(w[2], w[3]))
    }

    /// A uniform number on [0, 1).
    pub fn uniform(&self, element: u32) -> f64 {
        self.pair(element, 0).0
    }

    /// A standard normal number, by Box and Muller.
    pub fn normal(&self, element: u32, redraw: u32) -> f64 {
        let (u, v) = self.pair(element, redraw);
        // 1 - u lies in (0, 1], where the logarithm is finite.
        libm::sqrt(-2.0 * libm::log(1.0 - u)) * libm::cos(2.0 * std::f64::consts::PI * v)
    }

    /// A normal number of this deviation, drawn again while it lies beyond +-2.
    pub fn trunc_normal(&self, element: u32, deviation: f64) -> f64 {
        let last = 0xffff;
        for redraw in 0..last {
            let x = deviation * self.normal(element, redraw);
            if x.abs() <= 2.0 {
                return x;
            }
        }
        // Reached only by deviations above 10^4, for which the cut normal is uniform.
        4.0 * self.pair(element, last).0 - 2.0
    }

    /// A random order of 0..n: sorted by random keys, ties by index.
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut keyed: Vec<(u64, usize)> = (0..n)
            .map(|i| {
                let w = philox([i as u32, self.attempt << 16, self.clip, self.step], self.key);
                ((u64::from(w[0]) << 32) | u64::from(w[1]), i)
            })
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|k| k.1).collect()
    }
}

/// 53 of 64 bits as a number on [0, 1).
fn unit(high: u32, low: u32) -> f64 {
    (((u64::from(high) << 32) | u64::from(low)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The finaliser of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Ten rounds of Philox4x32.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the generator (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        assert_eq!(philox(pi, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn streams_differ_in_every_part_of_the_key() {
        let base = || Stream::new(1, 2, Some(3), "masks.0/top", 0).uniform(0);
        let others = [
            Stream::new(2, 2, Some(3), "masks.0/top", 0).uniform(0),
            Stream::new(1, 3, Some(3), "masks.0/top", 0).uniform(0),
            Stream::new(1, 2, Some(4), "masks.0/top", 0).uniform(0),
            Stream::new(1, 2, None, "masks.0/top", 0).uniform(0),
            Stream::new(1, 2, Some(3), "masks.1/top", 0).uniform(0),
            Stream::new(1, 2, Some(3), "masks.0/top", 1).uniform(0),
            Stream::new(1, 2, Some(3), "masks.0/top", 0).uniform(1),
        ];
        assert_eq!(base(), base());
        assert!(others.iter().all(|o| *o != base()), "{others:?}");
    }

    #[test]
    fn moments_of_the_distributions() {
        let s = Stream::new(7, 1, None, "x", 0);
        let n = 20_000u32;
        let mean = |f: &dyn Fn(u32) -> f64| (0..n).map(f).sum::<f64>() / f64::from(n);
        // Five standard errors of the mean of 20,000 draws.
        assert!((mean(&|i| s.uniform(i)) - 0.5).abs() < 0.011);
        assert!(mean(&|i| s.normal(i, 0)).abs() < 0.036);
        assert!((mean(&|i| s.normal(i, 0).powi(2)) - 1.0).abs() < 0.05);
        assert!((0..n).all(|i| s.trunc_normal(i, 1.5).abs() <= 2.0));
        let mut p = s.permutation(100);
        p.sort_unstable();
        assert!(p.into_iter().eq(0..100));
    }
}
