//! Bar charts as inline SVG, with the same numbers as a table for whoever cannot see them.

use std::io::{self, Write};

use super::page::Esc;

/// One bar: its name on the axis, what it stands for in words, and how many.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) meaning: String,
    pub(super) count: usize,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 698.0;
const TOP: f64 = 12.0;
const BASE: f64 = 162.0;
/// Names of this many letters fit side by side under the axis.
const LETTERS_MAX: usize = 84;

/// Writes a figure: heading, chart, table. `id` is unique in the page.
pub(super) fn write(w: &mut impl Write, id: &str, heading: &str, bars: &[Bar]) -> io::Result<()> {
    let highest = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let step = count_step(highest);
    let top = highest.div_ceil(step).max(1) * step;
    let y = |count: usize| BASE - (BASE - TOP) * count as f64 / top as f64;
    let total: usize = bars.iter().map(|bar| bar.count).sum();
    write!(
        w,
        "<figure class=\"chart\"><figcaption>{0}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{0}</title><desc id=\"{id}-d\">Bar chart of {total} \
         incidents, at most {highest} in one bar; the table below has the numbers.</desc>\n",
        Esc(heading)
    )?;
    for count in (0..=top).step_by(step) {
        let y = y(count);
        writeln!(
            w,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{count}</text>",
            LEFT - 7.0,
            y + 4.0
        )?;
    }
    let pitch = (RIGHT - LEFT) / bars.len().max(1) as f64;
    let letters = bars.iter().map(|bar| bar.name.chars().count() + 2).max().unwrap_or(1);
    let every = (bars.len() * letters).div_ceil(LETTERS_MAX).max(1);
    for (i, bar) in bars.iter().enumerate() {
        let left = LEFT + pitch * i as f64;
        let (x, width) = (left + pitch * 0.14, (pitch * 0.72).min(60.0));
        let x = x + (pitch * 0.72 - width) / 2.0;
        if bar.count > 0 {
            writeln!(
                w,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\" class=\"bar\">\
                 <title>{}: {}</title></rect>",
                y(bar.count),
                BASE - y(bar.count),
                Esc(&bar.meaning),
                bar.count
            )?;
        }
        if i % every == 0 {
            let middle = left + pitch / 2.0;
            let y = BASE + 18.0;
            writeln!(w, "<text x=\"{middle:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", Esc(&bar.name))?;
        }
    }
    writeln!(w, "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BASE}\" y2=\"{BASE}\" class=\"axis\"/></svg>")?;
    writeln!(
        w,
        "<details><summary>As a table</summary><table><thead><tr><th scope=\"col\">When</th>\
         <th scope=\"col\" class=\"n\">Incidents</th></tr></thead><tbody>"
    )?;
    for bar in bars.iter().filter(|bar| bar.count > 0) {
        writeln!(w, "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td></tr>", Esc(&bar.meaning), bar.count)?;
    }
    writeln!(w, "</tbody></table></details></figure>")
}

/// Distance of the lines behind the bars: a round whole number that gives at most five of them.
fn count_step(highest: usize) -> usize {
    let mut power = 1;
    loop {
        for step in [1, 2, 5] {
            if highest <= 5 * step * power {
                return step * power;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_round_numbers() {
        for (highest, step) in [(0, 1), (1, 1), (5, 1), (6, 2), (11, 5), (26, 10), (99, 20), (2000, 500)] {
            assert_eq!(count_step(highest), step, "{highest}");
        }
    }

    #[test]
    fn any_number_of_bars_is_a_chart() {
        for count in [0, 1, 400] {
            let bar = |i: usize| Bar { name: "<7>".into(), meaning: "a&b".into(), count: i };
            let bars: Vec<_> = (0..count).map(bar).collect();
            let mut page = Vec::new();
            write(&mut page, "x", "By \"hour\"", &bars).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(!page.contains("<7>") && !page.contains("NaN") && !page.contains("inf"), "{page}");
            assert_eq!(page.matches("<rect").count(), count.saturating_sub(1));
        }
    }
}
