//! How fast this machine can multiply and add: the rate that a step's products are measured against.
//!
//! Every thread runs a loop over registers alone, with enough independent sums to hide an instruction's latency: for bf16
//! the dot product of pairs (AVX-512-BF16) where the processor has it, else multiply-adds of f32. No memory is touched,
//! so real products can only come near this rate. Runs are short and are spread over the measurement, so that clocks and
//! other load are those of the steps; the median of them counts. Matrix units (AMX) are not used, here or in our kernels.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::median;

/// How long one run takes, about; by feel: long beside the start of a thread, short beside a step.
const RUN: Duration = Duration::from_millis(10);

/// Runs of each loop from which the fastest is chosen.
const TRIALS: usize = 3;

/// The machine's rate, measured again whenever it is asked to.
pub struct Meter {
    kernel: Loop,
    threads: usize,
    iterations: u64,
    rates: Vec<f64>,
}

impl Meter {
    /// Chooses the fastest loop for a precision (`f32` or `bf16`). More threads than processors have no use.
    pub fn new(precision: &str, threads: usize) -> Meter {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.clamp(1, processors);
        let mut meters = Loop::all(precision).into_iter().map(|kernel| {
            let mut meter = Meter { kernel, threads, iterations: kernel.calibrate(), rates: Vec::new() };
            meter.measure(TRIALS);
            meter
        });
        let first = meters.next().expect("compiler bug: no loop runs everywhere");
        let mut best = meters.fold(first, |best, next| if next.rate() > best.rate() { next } else { best });
        best.rates.clear(); // the winner's trials are its luckier ones
        best
    }

    /// Measures some more times.
    pub fn measure(&mut self, times: usize) {
        for _ in 0..times {
            self.rates.push(self.kernel.rate(self.threads, self.iterations));
        }
    }

    /// Median of all runs so far, in multiplies and adds a second on all threads together.
    pub fn rate(&self) -> f64 {
        median(&mut self.rates.clone())
    }

    /// The instructions of the loop.
    pub fn instructions(&self) -> &'static str {
        self.kernel.name()
    }
}

/// A loop of multiply-adds over registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loop {
    /// 32 pairs of bf16 a instruction, summed in f32.
    #[cfg(target_arch = "x86_64")]
    Bf16Dot,
    /// 16 multiply-adds of f32 an instruction.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 of them.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of a plain loop.
    Portable,
}

/// Independent sums of the AVX-512 loops, half of the registers.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 16;

/// Independent sums of the AVX2 loop; the rest of its 16 registers holds the operands.
#[cfg(target_arch = "x86_64")]
const NARROW: usize = 12;

/// Independent sums of the portable loop: twelve registers of four.
const PLAIN: usize = 48;

impl Loop {
    /// The loops that this processor can run for a precision.
    fn all(precision: &str) -> Vec<Loop> {
        let mut all = vec![Loop::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Loop::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Loop::Avx512);
            }
            if precision == "bf16" && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                all.push(Loop::Bf16Dot);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = precision;
        all
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Loop::Bf16Dot => "AVX-512-BF16 dot products",
            #[cfg(target_arch = "x86_64")]
            Loop::Avx512 => "AVX-512 f32 multiply-adds",
            #[cfg(target_arch = "x86_64")]
            Loop::Avx2 => "AVX2 f32 multiply-adds",
            Loop::Portable => "plain f32 multiply-adds",
        }
    }

    /// Multiplies and adds of one iteration.
    fn flops(self) -> f64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Loop::Bf16Dot => (WIDE * 32 * 2) as f64,
            #[cfg(target_arch = "x86_64")]
            Loop::Avx512 => (WIDE * 16 * 2) as f64,
            #[cfg(target_arch = "x86_64")]
            Loop::Avx2 => (NARROW * 8 * 2) as f64,
            Loop::Portable => (PLAIN * 2) as f64,
        }
    }

    /// A sum of everything computed, so that nothing is left out.
    fn run(self, iterations: u64) -> f32 {
        match self {
            // SAFETY: `all` names only loops whose instructions the processor has.
            #[cfg(target_arch = "x86_64")]
            Loop::Bf16Dot => unsafe { x86::bf16_dot(iterations) },
            #[cfg(target_arch = "x86_64")]
            Loop::Avx512 => unsafe { x86::avx512(iterations) },
            #[cfg(target_arch = "x86_64")]
            Loop::Avx2 => unsafe { x86::avx2(iterations) },
            Loop::Portable => portable(iterations),
        }
    }

    /// Iterations of one run.
    fn calibrate(self) -> u64 {
        let mut iterations = 1024;
        loop {
            let start = Instant::now();
            black_box(self.run(black_box(iterations)));
            let took = start.elapsed();
            if took * 4 >= RUN {
                let scale = RUN.as_secs_f64() / took.as_secs_f64();
                return ((iterations as f64 * scale) as u64).max(1);
            }
            iterations *= 2;
        }
    }

    /// Multiplies and adds a second when all threads run the loop at once.
    fn rate(self, threads: usize, iterations: u64) -> f64 {
        let gate = Barrier::new(threads);
        let work = || {
            gate.wait();
            let start = Instant::now();
            black_box(self.run(black_box(iterations)));
            (start, Instant::now())
        };
        let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let joined = others.into_iter().map(|t| t.join().expect("compiler bug: a loop of multiply-adds failed"));
            joined.chain([mine]).collect()
        });
        let (first, last) = (spans.iter().map(|s| s.0).min(), spans.iter().map(|s| s.1).max());
        let seconds = last.zip(first).map_or(0.0, |(last, first)| last.duration_since(first).as_secs_f64());
        threads as f64 * iterations as f64 * self.flops() / seconds.max(f64::MIN_POSITIVE)
    }
}

/// a x + y from different a to one limit: no overflow, no denormal numbers, and nothing that a compiler can merge.
fn portable(iterations: u64) -> f32 {
    let mut sums: [f32; PLAIN] = std::array::from_fn(|i| black_box(i as f32));
    let (x, y) = (black_box(0.5f32), black_box(0.5f32));
    for _ in 0..iterations {
        for a in &mut sums {
            // One instruction on 64-bit ARM; on other processors `mul_add` may be a call.
            *a = if cfg!(target_arch = "aarch64") { a.mul_add(x, y) } else { *a * x + y };
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{NARROW, WIDE};

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(iterations: u64) -> f32 {
        let mut sums: [__m256; NARROW] = std::array::from_fn(|i| _mm256_set1_ps(black_box(i as f32)));
        let (x, y) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.5)));
        for _ in 0..iterations {
            for a in &mut sums {
                *a = _mm256_fmadd_ps(*a, x, y);
            }
        }
        _mm256_cvtss_f32(sums.into_iter().fold(_mm256_setzero_ps(), |s, a| _mm256_add_ps(s, a)))
    }

    #[target_feature(enable = "avx512f")]
    pub fn avx512(iterations: u64) -> f32 {
        let mut sums: [__m512; WIDE] = std::array::from_fn(|i| _mm512_set1_ps(black_box(i as f32)));
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.5)));
        for _ in 0..iterations {
            for a in &mut sums {
                *a = _mm512_fmadd_ps(*a, x, y);
            }
        }
        _mm512_cvtss_f32(sums.into_iter().fold(_mm512_setzero_ps(), |s, a| _mm512_add_ps(s, a)))
    }

    /// Here the sums grow, by a half each time, until f32 no longer tells the difference.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16_dot(iterations: u64) -> f32 {
        let mut sums: [__m512; WIDE] = std::array::from_fn(|i| _mm512_set1_ps(black_box(i as f32)));
        let (one, quarter) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(0.25)));
        let (x, y) = (_mm512_cvtne2ps_pbh(one, one), _mm512_cvtne2ps_pbh(quarter, quarter));
        for _ in 0..iterations {
            for a in &mut sums {
                *a = _mm512_dpbf16_ps(*a, x, y);
            }
        }
        _mm512_cvtss_f32(sums.into_iter().fold(_mm512_setzero_ps(), |s, a| _mm512_add_ps(s, a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_computes_what_it_says() {
        // a = a / 2 + 1 / 2 goes to 1 from anywhere: in 64 steps every sum is there.
        assert_eq!(Loop::Portable.run(64), PLAIN as f32);
        // Sums that begin at 0, 1, 2, ... and get 64 halves.
        #[cfg(target_arch = "x86_64")]
        let dots = (0..WIDE).map(|i| i as f32 + 32.0).sum();
        #[cfg(target_arch = "x86_64")]
        for (kernel, sum) in [(Loop::Avx2, NARROW as f32), (Loop::Avx512, WIDE as f32), (Loop::Bf16Dot, dots)] {
            if Loop::all("bf16").contains(&kernel) {
                assert_eq!(kernel.run(64), sum, "{}", kernel.name());
            } else {
                eprintln!("skipped: this processor has no {}", kernel.name());
            }
        }
    }

    #[test]
    fn the_dot_product_is_for_bf16_alone() {
        assert!(Loop::all("f32").iter().all(|kernel| kernel.name().contains("f32")));
    }

    #[test]
    fn the_rate_is_that_of_all_runs() {
        let mut meter = Meter::new("f32", 2);
        meter.measure(3);
        assert_eq!(meter.rates.len(), 3);
        assert!(meter.rate() > 0.0 && meter.rate().is_finite());
        assert!(!meter.instructions().is_empty());
    }
}
