//! Draws by a Zipf law: the k-th most popular of n things comes up in proportion to 1/k.

use kernel::Rng;

/// Cumulative weights of `n` ranks.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(count: u32) -> Self {
        let mut sum = 0.0;
        let weights = (1..=count).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Self(weights.collect())
    }

    /// A rank, from 0 for the most popular.
    pub(crate) fn draw(&self, rng: &Rng) -> usize {
        let total = self.0.last().copied().unwrap_or(0.0);
        let point = rng.unit_f64() * total;
        self.0.partition_point(|sum| *sum <= point).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_comes_twice_as_often_as_the_second() {
        let (zipf, rng) = (Zipf::new(1000), Rng::seeded(1));
        let mut counts = vec![0_u32; 1000];
        for _ in 0..200_000 {
            counts[zipf.draw(&rng)] += 1;
        }
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
        // The weight of rank 1 among 1000 is 1 / H(1000), H(1000) = 7.485.
        assert!((f64::from(counts[0]) / 200_000.0 - 1.0 / 7.485).abs() < 0.01);
    }
}
