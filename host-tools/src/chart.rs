//! Charts of figures as PNG: lines over two axes, and bars with names.

use std::path::Path;

use files::picture::canvas::{
    Alignment, Canvas, FONT_6X13, FONT_7X13, FONT_7X13_BOLD, FONT_9X15_BOLD, Rgb, fitted, look, text_width,
};

const WIDTH: i32 = 720;
const HEIGHT: i32 = 560;
const LEFT: i32 = 86;
const TOP: i32 = 48;
const PANEL_WIDTH: i32 = 600;
const PANEL_HEIGHT: i32 = 440;
/// Where the title of bars begins; what is right of a title, and left of a bar's name.
const BARS_LEFT: i32 = 20;
const MARGIN: i32 = 8;

const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [38, 42, 51];
const SOFT: Rgb = [108, 114, 126];
const FAINT: Rgb = [226, 229, 234];
/// Colours of the lines, told apart by people who see no red or green as well (Okabe and Ito 2008).
pub const BLUE: Rgb = [0, 114, 178];
pub const ORANGE: Rgb = [213, 94, 0];
pub const GREEN: Rgb = [0, 158, 115];

/// The title of a chart of `what`, with as much of the model's name as there is room for: it is what makes a title too long.
pub fn title(model: &str, what: &str) -> String {
    let what = format!(": {what}");
    let room = WIDTH - LEFT - MARGIN - text_width(&what, &FONT_9X15_BOLD);
    fitted(model, room, &FONT_9X15_BOLD) + &what
}

/// One axis.
pub struct Axis<'a> {
    /// Under or beside it.
    pub name: &'a str,
    /// How values become places.
    pub scale: Scale,
    /// Values with a line and a number.
    pub ticks: &'a [(f64, &'a str)],
}

/// From a value to a place on an axis. Values outside are drawn at its end.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// Evenly.
    Linear(f64, f64),
    /// Evenly by factors; both ends above 0.
    Log(f64, f64),
    /// As a DET curve wants it: normal deviates of shares above 0 and under 1.
    Probit(f64, f64),
}

/// One line, or dots.
pub struct Series<'a> {
    /// In the legend.
    pub name: &'a str,
    /// Its colour.
    pub colour: Rgb,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
    /// Joined by lines; dots alone otherwise.
    pub joined: bool,
    /// A dot at every point.
    pub dots: bool,
}

/// Lines over two axes.
pub struct Chart<'a> {
    /// Over it.
    pub title: &'a str,
    /// Across.
    pub x: Axis<'a>,
    /// Up.
    pub y: Axis<'a>,
    /// What is drawn, in this order.
    pub series: Vec<Series<'a>>,
}

impl Scale {
    /// 0 at the axis' start, 1 at its end.
    pub fn place(self, value: f64) -> f64 {
        let of = |low: f64, high: f64, value: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        match self {
            Self::Linear(low, high) => of(low, high, value),
            Self::Log(low, high) => of(low.ln(), high.ln(), value.max(low).ln()),
            Self::Probit(low, high) => of(probit(low), probit(high), probit(value.clamp(low, high))),
        }
    }
}

/// The normal deviate under which a share `p` lies (Acklam's rational approximation, error under 1.2e-9).
fn probit(p: f64) -> f64 {
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    const A: [f64; 6] = [
        -39.69683028665376,
        220.9460984245205,
        -275.9285104469687,
        138.357751867269,
        -30.66479806614716,
        2.506628277459239,
    ];
    const B: [f64; 6] =
        [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0];
    const C: [f64; 6] = [
        -0.007784894002430293,
        -0.3223964580411365,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0];
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        poly(&C, q) / poly(&D, q)
    } else if p > 1.0 - 0.02425 {
        -probit(1.0 - p)
    } else {
        let q = p - 0.5;
        poly(&A, q * q) * q / poly(&B, q * q)
    }
}

impl Chart<'_> {
    /// Draws it into `path`.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, PAPER);
        let title = fitted(self.title, WIDTH - LEFT - MARGIN, &FONT_9X15_BOLD);
        canvas.text(&title, LEFT, 20, &look(&FONT_9X15_BOLD, INK, Alignment::Left));
        for (value, name) in self.x.ticks {
            let x = self.x_of(*value);
            canvas.fill(x, TOP, 1, PANEL_HEIGHT, FAINT);
            canvas.text(name, x, TOP + PANEL_HEIGHT + 14, &look(&FONT_7X13, INK, Alignment::Center));
        }
        for (value, name) in self.y.ticks {
            let y = self.y_of(*value);
            canvas.fill(LEFT, y, PANEL_WIDTH, 1, FAINT);
            canvas.text(name, LEFT - 8, y, &look(&FONT_7X13, INK, Alignment::Right));
        }
        canvas.frame(LEFT - 1, TOP - 1, PANEL_WIDTH + 2, PANEL_HEIGHT + 2, INK);
        let middle = look(&FONT_7X13, INK, Alignment::Center);
        canvas.text(self.x.name, LEFT + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT + 38, &middle);
        canvas.text_upwards(self.y.name, 20, TOP + PANEL_HEIGHT / 2, &middle);
        for series in &self.series {
            let places: Vec<(i32, i32)> = series.points.iter().map(|(x, y)| (self.x_of(*x), self.y_of(*y))).collect();
            if series.joined {
                for pair in places.windows(2) {
                    canvas.line(pair[0], pair[1], 2, series.colour);
                }
            }
            for (x, y) in places.iter().filter(|_| series.dots) {
                canvas.fill(x - 4, y - 4, 9, 9, PAPER);
                canvas.fill(x - 3, y - 3, 7, 7, series.colour);
            }
        }
        self.draw_legend(&mut canvas);
        Ok(canvas.write(path)?)
    }

    fn draw_legend(&self, canvas: &mut Canvas) {
        let named: Vec<_> = self.series.iter().filter(|series| !series.name.is_empty()).collect();
        let widest = named.iter().map(|series| text_width(series.name, &FONT_7X13)).max().unwrap_or(0);
        let (width, height) = (widest + 42, 18 * named.len() as i32 + 8);
        if named.is_empty() {
            return;
        }
        let (left, top) = self.emptiest_corner(width, height);
        canvas.fill(left, top, width, height, PAPER);
        canvas.frame(left, top, width, height, FAINT);
        for (series, i) in named.iter().zip(0..) {
            let y = top + 13 + 18 * i;
            canvas.fill(left + 8, y - 1, 20, 3, series.colour);
            canvas.text(series.name, left + 34, y, &look(&FONT_7X13, INK, Alignment::Left));
        }
    }

    /// Where a box of this size covers least of what is drawn; bottom right where that is all the same.
    fn emptiest_corner(&self, width: i32, height: i32) -> (i32, i32) {
        let (right, bottom) = (LEFT + PANEL_WIDTH - width - 10, TOP + PANEL_HEIGHT - height - 10);
        let corners = [(right, bottom), (right, TOP + 10), (LEFT + 10, bottom), (LEFT + 10, TOP + 10)];
        let covered = |(left, top): &(i32, i32)| {
            let inside = |(x, y): &(i32, i32)| (*left..left + width).contains(x) && (*top..top + height).contains(y);
            self.series.iter().map(|series| self.drawn(series).filter(inside).count()).sum::<usize>()
        };
        corners.into_iter().min_by_key(covered).unwrap_or((right, bottom))
    }

    /// Places that a line passes, every few pixels, and its dots.
    fn drawn<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = (i32, i32)> + 'a {
        const STEPS: i32 = 64;
        let place = |point: &(f64, f64)| (self.x_of(point.0), self.y_of(point.1));
        let between = move |pair: &[(f64, f64)]| {
            let ((x0, y0), (x1, y1)) = (place(&pair[0]), place(&pair[1]));
            (0..STEPS).map(move |i| (x0 + (x1 - x0) * i / STEPS, y0 + (y1 - y0) * i / STEPS))
        };
        let lines = series.points.windows(2).filter(|_| series.joined).flat_map(between);
        lines.chain(series.points.iter().map(place))
    }

    fn x_of(&self, value: f64) -> i32 {
        LEFT + (self.x.scale.place(value) * f64::from(PANEL_WIDTH - 1)).round() as i32
    }

    fn y_of(&self, value: f64) -> i32 {
        TOP + PANEL_HEIGHT - 1 - (self.y.scale.place(value) * f64::from(PANEL_HEIGHT - 1)).round() as i32
    }
}

/// A named bar.
pub struct Bar {
    /// Left of it.
    pub name: String,
    /// 0..1 of the width.
    pub share: f64,
    /// Right of it.
    pub note: String,
    /// Its colour.
    pub colour: Rgb,
}

/// Draws bars, one under the other, into `path`.
pub fn write_bars(path: &Path, title: &str, axis: &str, bars: &[Bar]) -> anyhow::Result<()> {
    Ok(draw_bars(title, axis, bars).write(path)?)
}

fn draw_bars(title: &str, axis: &str, bars: &[Bar]) -> Canvas {
    const ROW: i32 = 19;
    const NAME: i32 = 170;
    const LENGTH: i32 = 400;
    let height = TOP + ROW * bars.len() as i32 + 56;
    let mut canvas = Canvas::new(WIDTH as usize, height as usize, PAPER);
    let title = fitted(title, WIDTH - BARS_LEFT - MARGIN, &FONT_9X15_BOLD);
    canvas.text(&title, BARS_LEFT, 20, &look(&FONT_9X15_BOLD, INK, Alignment::Left));
    let bottom = TOP + ROW * bars.len() as i32;
    for percent in (0..=100).step_by(20) {
        let x = NAME + LENGTH * percent / 100;
        canvas.fill(x, TOP - 4, 1, bottom - TOP + 8, FAINT);
        let name = format!("{percent}");
        canvas.text(&name, x, bottom + 16, &look(&FONT_7X13, INK, Alignment::Center));
    }
    canvas.text(axis, NAME + LENGTH / 2, bottom + 36, &look(&FONT_7X13, INK, Alignment::Center));
    for (bar, row) in bars.iter().zip(0..) {
        let y = TOP + ROW * row + ROW / 2;
        let name = fitted(&bar.name, NAME - 8 - MARGIN, &FONT_7X13_BOLD);
        canvas.text(&name, NAME - 8, y, &look(&FONT_7X13_BOLD, INK, Alignment::Right));
        let length = (bar.share.clamp(0.0, 1.0) * f64::from(LENGTH)).round() as i32;
        canvas.fill(NAME, y - 6, length.max(1), 13, bar.colour);
        canvas.text(&bar.note, NAME + length + 8, y, &look(&FONT_6X13, SOFT, Alignment::Left));
    }
    canvas
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn deviates_agree_with_the_tables() {
        for (p, expect) in [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (0.001, -3.090_232)] {
            assert!((probit(p) - expect).abs() < 1e-5, "{p}: {}", probit(p));
        }
    }

    #[test]
    fn the_legend_stands_where_nothing_is_drawn() {
        let axis = |name| Axis { name, scale: Scale::Linear(0.0, 1.0), ticks: &[] };
        let corner = |points: Vec<(f64, f64)>| {
            let series = vec![Series { name: "a", colour: BLUE, points, joined: true, dots: false }];
            Chart { title: "t", x: axis("x"), y: axis("y"), series }.emptiest_corner(200, 60)
        };
        let (left, right, top, bottom) = (LEFT + 10, LEFT + PANEL_WIDTH - 210, TOP + 10, TOP + PANEL_HEIGHT - 70);
        assert_eq!(corner(vec![(0.0, 0.0), (1.0, 1.0)]), (right, bottom));
        // One long line, without a point of its own in the corner.
        assert_eq!(corner(vec![(0.4, 0.1), (1.0, 0.1)]), (right, top));
        assert_eq!(corner(vec![(0.0, 0.95), (0.9, 0.95), (0.9, 0.0)]), (left, bottom));
        assert_eq!(corner(vec![(0.0, 0.1), (0.9, 0.1), (0.9, 1.0)]), (left, top));
    }

    #[test]
    fn a_name_too_long_is_shown_from_its_beginning() {
        let drawn = |title: &str, name: &str| {
            let bar = Bar { name: name.into(), share: 0.5, note: "1 of 2".into(), colour: BLUE };
            draw_bars(title, "flagged, %", &[bar]).to_png().unwrap()
        };
        let long = "a class whose name nobody would write over a door";
        assert!(drawn("t", &format!("{long}, a")) == drawn("t", &format!("{long}, b")), "its end has no room");
        assert!(drawn("t", &format!("a{long}")) != drawn("t", &format!("b{long}")), "its beginning has");
        let wide = "x".repeat(100);
        assert!(drawn(&wide, "n") == drawn(&wide[..90], "n"));
        assert!(drawn(&wide, "n") != drawn(&wide[..75], "n"), "one that fits has no dots");
    }

    #[test]
    fn a_long_model_leaves_room_for_what_a_chart_shows() {
        assert_eq!(title("scream 1.0.0", "ROC, area 0.9912"), "scream 1.0.0: ROC, area 0.9912");
        let what = "clips at threshold 0.8 or above, by class";
        let title = title(&format!("{} 1.0.0", "resnet34-of-the-house-".repeat(10)), what);
        assert!(title.starts_with("resnet34") && title.ends_with(&format!("...: {what}")), "{title}");
        assert!(LEFT + text_width(&title, &FONT_9X15_BOLD) <= WIDTH, "{title}");
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_end() {
        for (scale, low, high) in [
            (Scale::Linear(0.0, 2.0), -1.0, 3.0),
            (Scale::Log(0.1, 10.0), 0.0, 100.0),
            (Scale::Probit(0.01, 0.5), 0.0, 1.0),
        ] {
            assert_eq!((scale.place(low), scale.place(high)), (0.0, 1.0), "{scale:?}");
        }
        assert!((Scale::Log(0.1, 10.0).place(1.0) - 0.5).abs() < 1e-12);
    }
}
