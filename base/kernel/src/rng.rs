//! Randomness as a parameter: the system's, or seeded so that a run can be replayed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// The only source of randomness. Cheap to clone; clones of a seeded generator share its sequence.
#[derive(Clone)]
pub struct Rng(Inner);

#[derive(Clone)]
enum Inner {
    System,
    Seeded(Arc<Mutex<StdRng>>),
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::System => "Rng::System",
            Inner::Seeded(_) => "Rng::Seeded",
        })
    }
}

impl Rng {
    /// Cryptographically secure randomness, seeded by the operating system.
    pub fn system() -> Self {
        Self(Inner::System)
    }

    /// A replayable sequence. For tests and simulation only: never for secrets.
    pub fn seeded(seed: u64) -> Self {
        Self(Inner::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// Fills `out` with random bytes.
    pub fn fill(&self, out: &mut [u8]) {
        match &self.0 {
            Inner::System => rand::rng().fill_bytes(out),
            Inner::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out),
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random 64-bit number.
    pub fn next_u64(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number in `0..bound`, without modulo bias worth speaking of (2⁻⁶⁴ × bound); 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A number in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    pub fn unit_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
