//! How many of the true neighbours an index of bytes finds.

use std::collections::HashSet;

use clip::search::Storage;

use crate::support::*;

/// Vectors as CLIP makes them: all within a cone, in clusters within clusters, with a few components that
/// are much larger than the others.
fn real_like(noise: &mut Noise, count: usize, dim: usize) -> Vec<Vec<f32>> {
    let scale: Vec<f64> =
        (0..dim).map(|i| if i % 200 == 92 { 8.0 } else { 0.5 + noise.even() }).collect();
    let drawn =
        |noise: &mut Noise| -> Vec<f64> { scale.iter().map(|s| s * noise.normal()).collect() };
    let cone = drawn(noise);
    let clusters: Vec<_> = (0..60).map(|_| drawn(noise)).collect();
    let inner: Vec<_> = (0..600).map(|_| drawn(noise)).collect();
    let mut vector = || {
        let at = (noise.even() * 600.0) as usize;
        let own = drawn(noise);
        let mixed = (0..dim).map(|i| {
            0.9 * cone[i] + 0.6 * clusters[at / 10][i] + 0.4 * inner[at][i] + 0.3 * own[i]
        });
        unit(&mixed.collect::<Vec<_>>())
    };
    (0..count).map(|_| vector()).collect()
}

#[test]
fn bytes_find_the_ten_true_neighbours() {
    let mut noise = Noise::new(11);
    let mut vectors = real_like(&mut noise, 20_100, 512);
    let queries = vectors.split_off(20_000);
    let (exact, bytes) = (filled(Storage::F32, &vectors), filled(Storage::I8, &vectors));
    let mut found = 0;
    for query in &queries {
        let expected: HashSet<_> = names(&nearest(&exact, like(query), 10)).into_iter().collect();
        let ours = names(&nearest(&bytes, like(query), 10));
        found += ours.iter().filter(|name| expected.contains(*name)).count();
    }
    let recall = found as f64 / (10 * queries.len()) as f64;
    println!("recall@10: {recall}");
    assert!(recall >= 0.99, "{recall}");
}
