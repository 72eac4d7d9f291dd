//! Every family of kernels that this processor has, over small residual networks of odd sizes, against loops as plain as can
//! be: float layers to rounding, integer layers to the same bit as plain Rust.
#![allow(clippy::unwrap_used)]

use kernels::{Arithmetic, Builder, Kernels, Network, Refused, Value, Window, available};

/// Seeded values of -1 to 1.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * scale).collect()
    }
}

/// Channels x height x width, with the operations written down once more.
#[derive(Clone)]
struct Plain {
    shape: [usize; 3],
    values: Vec<f32>,
}

impl Plain {
    fn at(&self, c: usize, y: isize, x: isize) -> Option<f32> {
        let [_, height, width] = self.shape;
        let inside = y >= 0 && x >= 0 && (y as usize) < height && (x as usize) < width;
        inside.then(|| self.values[(c * height + y as usize) * width + x as usize])
    }

    fn windows(&self, window: &Window, channels: usize, f: impl Fn(usize, isize, isize) -> f32) -> Self {
        let along = |axis: usize| {
            (self.shape[axis + 1] + window.before[axis] + window.after[axis] - window.size[axis]) / window.stride[axis]
                + 1
        };
        let shape = [channels, along(0), along(1)];
        let mut values = Vec::new();
        for c in 0..channels {
            for y in 0..shape[1] {
                for x in 0..shape[2] {
                    let start =
                        |at: usize, axis: usize| (at * window.stride[axis]) as isize - window.before[axis] as isize;
                    values.push(f(c, start(y, 0), start(x, 1)));
                }
            }
        }
        Self { shape, values }
    }

    fn conv(&self, window: &Window, weights: &[f32], bias: &[f32]) -> Self {
        let [inputs, ..] = self.shape;
        let [rows, columns] = window.size;
        self.windows(window, bias.len(), |c, top, left| {
            let mut sum = 0f64;
            for i in 0..inputs {
                for y in 0..rows {
                    for x in 0..columns {
                        let weight = weights[((c * inputs + i) * rows + y) * columns + x];
                        let value = self.at(i, top + y as isize, left + x as isize).unwrap_or(0.0);
                        sum += f64::from(weight) * f64::from(value);
                    }
                }
            }
            (sum + f64::from(bias[c])) as f32
        })
    }

    fn max_pool(&self, window: &Window) -> Self {
        self.windows(window, self.shape[0], |c, top, left| {
            let mut most = f32::NEG_INFINITY;
            for y in 0..window.size[0] {
                for x in 0..window.size[1] {
                    most = most.max(self.at(c, top + y as isize, left + x as isize).unwrap_or(f32::NEG_INFINITY));
                }
            }
            most
        })
    }

    fn relu(mut self) -> Self {
        self.values.iter_mut().for_each(|x| *x = x.max(0.0));
        self
    }

    fn add(mut self, other: &Self) -> Self {
        self.values.iter_mut().zip(&other.values).for_each(|(x, y)| *x += y);
        self
    }
}

fn square(size: usize, stride: usize, pad: usize) -> Window {
    Window { size: [size; 2], stride: [stride; 2], before: [pad; 2], after: [pad; 2] }
}

/// Weights, 8-bit codes where `codes`, and biases.
fn layer(noise: &mut Noise, outputs: usize, per_output: usize, codes: bool) -> (Vec<f32>, Vec<f32>) {
    let scale = 2.0 / (per_output as f32).sqrt();
    let mut weights = noise.values(outputs * per_output, scale);
    if codes {
        for row in weights.chunks_exact_mut(per_output) {
            let step = row.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            row.iter_mut().for_each(|x| *x = (*x / step).round() * step);
        }
    }
    (weights, noise.values(outputs, 0.2))
}

/// A convolution in a network and in the plain loops.
fn both(
    builder: &mut Builder,
    noise: &mut Noise,
    x: (Value, &Plain),
    outputs: usize,
    window: Window,
    codes: bool,
) -> (Value, Plain) {
    let per_output = x.1.shape[0] * window.size[0] * window.size[1];
    let (weights, bias) = layer(noise, outputs, per_output, codes);
    let value = builder.conv("conv", x.0, window, &weights, &bias).unwrap();
    (value, x.1.conv(&window, &weights, &bias))
}

/// A network with every operation: both ways to fuse, and sums and ReLUs that cannot be fused.
fn residual(
    kernels: &'static Kernels,
    arithmetic: Arithmetic,
    codes: bool,
    shape: [usize; 3],
    picture: &[f32],
) -> (Network, Vec<f32>) {
    let mut noise = Noise(7);
    let (mut builder, input) = Builder::new(kernels, arithmetic, shape).unwrap();
    let plain = Plain { shape, values: picture.to_vec() };
    let conv = |builder: &mut Builder, noise: &mut Noise, x: (Value, &Plain), outputs: usize, window: Window| {
        both(builder, noise, x, outputs, window, codes)
    };
    let b = &mut builder;
    let n = &mut noise;
    let (value, plain) = conv(b, n, (input, &plain), 24, square(7, 2, 3));
    let (value, plain) = (b.relu(value).unwrap(), plain.relu());
    let pool = square(3, 2, 1);
    let (value, plain) = (b.max_pool(value, pool).unwrap(), plain.max_pool(&pool));
    // A block of one shape.
    let (inner, inner_plain) = conv(b, n, (value, &plain), 24, square(3, 1, 1));
    let (inner, inner_plain) = (b.relu(inner).unwrap(), inner_plain.relu());
    let (inner, inner_plain) = conv(b, n, (inner, &inner_plain), 24, square(3, 1, 1));
    let (sum, sum_plain) = (b.add(inner, value).unwrap(), inner_plain.add(&plain));
    // The sum is read twice: its ReLU cannot be fused.
    let (value, plain) = (b.relu(sum).unwrap(), sum_plain.clone().relu());
    let (value, plain) = (b.add(value, sum).unwrap(), plain.add(&sum_plain));
    let (value, plain) = (b.relu(value).unwrap(), plain.relu());
    // A block that halves, with a convolution on both ways.
    let (inner, inner_plain) = conv(b, n, (value, &plain), 40, square(3, 2, 1));
    let (inner, inner_plain) = (b.relu(inner).unwrap(), inner_plain.relu());
    let (inner, inner_plain) = conv(b, n, (inner, &inner_plain), 40, square(3, 1, 1));
    let (short, short_plain) = conv(b, n, (value, &plain), 40, square(1, 2, 0));
    let (value, plain) = (b.add(inner, short).unwrap(), inner_plain.add(&short_plain));
    let (value, plain) = (b.relu(value).unwrap(), plain.relu());
    // No padding, not square, no ReLU.
    let narrow = Window { size: [1, 2], stride: [1, 1], before: [0, 0], after: [0, 1] };
    let (value, plain) = conv(b, n, (value, &plain), 70, narrow);
    let (weights, bias) = layer(n, 5, 70, false);
    let value = b.sum(value).unwrap();
    let value = b.dense(value, weights.clone(), bias.clone()).unwrap();
    let sums: Vec<f32> = plain.values.chunks_exact(plain.shape[1] * plain.shape[2]).map(|c| c.iter().sum()).collect();
    let expected = weights
        .chunks_exact(70)
        .zip(&bias)
        .map(|(row, bias)| bias + row.iter().zip(&sums).map(|(weight, sum)| weight * sum).sum::<f32>())
        .collect();
    (builder.finish(value).unwrap(), expected)
}

const SHAPES: [[usize; 3]; 3] = [[1, 21, 38], [3, 16, 16], [1, 33, 90]];

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(1e-3f32, |most, x| most.max(x.abs()))
}

#[test]
fn float_layers_are_the_plain_loops() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut patches = 0;
    for shape in SHAPES {
        let picture = Noise(3).values(shape.iter().product(), 2.0);
        for kernels in available() {
            for codes in [false, true] {
                let (network, expected) = residual(kernels, Arithmetic::Float, codes, shape, &picture);
                patches += count(&network, "conv f32, Winograd");
                let mut workspace = network.workspace();
                let first = network.run(&mut workspace, &picture, None, &mut |_| ()).to_vec();
                for (a, b) in first.iter().zip(&expected) {
                    let off = (a - b).abs() / largest(&expected);
                    assert!(off < 2e-5, "{} {shape:?} codes {codes}: {a} against {b}", kernels.name());
                }
                // Buffers that were used before, and three threads, change nothing.
                let again = network.run(&mut workspace, &picture, Some(&pool), &mut |_| ()).to_vec();
                assert_eq!(first, again, "{}", kernels.name());
            }
        }
    }
    // Those with enough pixels a channel: the first block of each picture, the second of the widest, and of 8-bit weights
    // the widest's first. Their ends are odd down and across, down alone, and even.
    assert_eq!(patches, (7 + 2) * available().len());
}

fn count(network: &Network, kind: &str) -> usize {
    network.layers().iter().filter(|layer| layer.kind == kind).count()
}

/// Every pixel counts for itself: the window behind the layer is the whole picture. Beside the layer another one reads its
/// input through a wider border and is added to it.
#[test]
fn patches_fit_pictures_of_every_shape() {
    let cases = [
        (2, 2, [1, 1]),
        (2, 2, [1, 2]),
        (2, 2, [2, 1]),
        (24, 70, [1, 47]),
        (24, 70, [47, 1]),
        (24, 70, [6, 7]),
        // A whole block, and one that is a patch more.
        (24, 40, [8, 12]),
        (24, 40, [10, 10]),
    ];
    let pools = [1, 3, 32, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    for (inputs, outputs, [height, width]) in cases {
        for kernels in available() {
            let mut noise = Noise(5);
            let picture = noise.values(height * width, 2.0);
            let plain = Plain { shape: [1, height, width], values: picture.clone() };
            let (mut builder, input) = Builder::new(kernels, Arithmetic::Float, plain.shape).unwrap();
            let (b, n) = (&mut builder, &mut noise);
            let (value, plain) = both(b, n, (input, &plain), inputs, square(1, 1, 0), false);
            let (near, near_plain) = both(b, n, (value, &plain), outputs, square(3, 1, 1), false);
            let (far, far_plain) = both(b, n, (value, &plain), outputs, square(5, 1, 2), false);
            let (value, plain) = (b.add(near, far).unwrap(), near_plain.add(&far_plain));
            let all = Window { size: [height, width], stride: [1; 2], before: [0; 2], after: [0; 2] };
            let (value, plain) = both(b, n, (value, &plain), 3, all, false);
            let value = b.sum(value).unwrap();
            // The sum as it is.
            let same = (0..9).map(|place| if place % 4 == 0 { 1.0 } else { 0.0 }).collect();
            let value = b.dense(value, same, vec![0.0; 3]).unwrap();
            let network = builder.finish(value).unwrap();
            let case = format!("{} {inputs} to {outputs}, {height}x{width}", kernels.name());
            assert_eq!(count(&network, "conv f32, Winograd"), 1, "{case}");
            let mut workspace = network.workspace();
            let first = network.run(&mut workspace, &picture, None, &mut |_| ()).to_vec();
            for (a, b) in first.iter().zip(&plain.values) {
                assert!((a - b).abs() < 2e-5 * largest(&plain.values), "{case}: {a} against {b}");
            }
            for pool in &pools {
                let again = network.run(&mut workspace, &picture, Some(pool), &mut |_| ()).to_vec();
                assert_eq!(first, again, "{case}, {} threads", pool.current_num_threads());
            }
        }
    }
}

/// An integer layer scales its input by the largest value that the layer before has put out, here the last that it computes.
#[test]
fn an_integer_layer_reads_what_patches_made() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let shape = [1, 9, 23];
    let mut picture = Noise(9).values(shape.iter().product(), 0.1);
    *picture.last_mut().unwrap() = 8.0;
    for kernels in available() {
        let mut noise = Noise(11);
        let plain = Plain { shape, values: picture.clone() };
        let (mut builder, input) = Builder::new(kernels, Arithmetic::Integer, shape).unwrap();
        let (b, n) = (&mut builder, &mut noise);
        let (value, plain) = both(b, n, (input, &plain), 32, square(1, 1, 0), false);
        let (value, plain) = (b.relu(value).unwrap(), plain.relu());
        let (value, plain) = both(b, n, (value, &plain), 72, square(3, 1, 1), false);
        let (value, plain) = (b.relu(value).unwrap(), plain.relu());
        let most = plain.values.iter().fold(0f32, |most, x| most.max(*x));
        let last = [8 * 23 + 22, 8 * 23 + 21, 7 * 23 + 22, 7 * 23 + 21];
        let in_corner = last.iter().flat_map(|pixel| (0..72).map(move |c| c * 9 * 23 + pixel));
        assert!(in_corner.into_iter().any(|place| plain.values[place] == most), "the corner is loudest");
        let (value, plain) = both(b, n, (value, &plain), 16, square(3, 1, 1), true);
        let value = b.sum(value).unwrap();
        let same = (0..256).map(|place| if place % 17 == 0 { 1.0 } else { 0.0 }).collect();
        let value = b.dense(value, same, vec![0.0; 16]).unwrap();
        let network = builder.finish(value).unwrap();
        assert_eq!((count(&network, "conv f32, Winograd"), count(&network, "conv int8")), (1, 1), "{}", kernels.name());
        let expected: Vec<f32> = plain.values.chunks_exact(9 * 23).map(|c| c.iter().sum()).collect();
        let mut workspace = network.workspace();
        for pool in [None, Some(&pool)] {
            for (a, b) in network.run(&mut workspace, &picture, pool, &mut |_| ()).iter().zip(&expected) {
                assert!((a - b).abs() < 0.03 * largest(&expected), "{}: {a} against {b}", kernels.name());
            }
        }
    }
}

#[test]
fn integer_layers_are_near_and_the_same_to_the_bit_everywhere() {
    for shape in SHAPES {
        // The first layer is float and comes out a rounding apart: whole numbers of few bits make it exact.
        let picture: Vec<f32> = Noise(3).values(shape.iter().product(), 8.0).iter().map(|x| x.round() * 0.25).collect();
        let mut all = Vec::new();
        for kernels in available() {
            let (network, expected) = residual(kernels, Arithmetic::Integer, true, shape, &picture);
            assert!(count(&network, "conv int8") >= 5);
            let mut workspace = network.workspace();
            let scores = network.run(&mut workspace, &picture, None, &mut |_| ()).to_vec();
            let again = network.run(&mut workspace, &picture, None, &mut |_| ()).to_vec();
            assert_eq!(scores, again, "{}", kernels.name());
            for (a, b) in scores.iter().zip(&expected) {
                let off = (a - b).abs() / largest(&expected);
                assert!(off < 0.03, "{} {shape:?}: {a} against {b}", kernels.name());
            }
            all.push((kernels.name(), scores));
        }
        for (name, scores) in &all {
            for (a, b) in scores.iter().zip(&all[0].1) {
                assert_eq!(a.to_bits(), b.to_bits(), "{shape:?}: {name} {a}, {} {b}", all[0].0);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernels = Kernels::best();
    let (mut builder, input) = Builder::new(kernels, Arithmetic::Float, [1, 8, 8]).unwrap();
    let window = square(3, 1, 1);
    assert!(builder.conv("few", input, window, &[0.0; 8], &[0.0]).is_err());
    assert!(builder.conv("large", input, square(11, 1, 0), &[0.0; 121], &[0.0]).is_err());
    assert!(builder.conv("border", input, square(3, 1, 3), &[0.0; 9], &[0.0]).is_err());
    assert!(builder.conv("nan", input, window, &[f32::NAN; 9], &[0.0]).is_err());
    assert!(builder.dense(input, vec![0.0; 64], vec![0.0]).is_err());
    assert!(builder.finish(input).is_err());
    assert!(matches!(Builder::new(kernels, Arithmetic::Float, [0, 8, 8]), Err(Refused(_))));
}
