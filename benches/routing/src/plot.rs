//! One comparison as a picture: waiting, caching, and how even the work was.
//!
//! Written as SVG by hand: three panels need a hundred lines, a plotting crate would
//! be the largest dependency of the benchmark.

use std::fmt::Write;

use crate::measure::Figures;
use crate::report::Comparison;

const WIDTH: f64 = 960.0;
/// Where the names end and the panels begin.
const LEFT: f64 = 110.0;
const ROW: f64 = 22.0;
const TOP: f64 = 84.0;
const WAITING: Panel = Panel { from: LEFT, to: 560.0 };
const CACHING: Panel = Panel { from: 610.0, to: 930.0 };
const COURSE: Panel = Panel { from: LEFT, to: 930.0 };
const COURSE_HEIGHT: f64 = 200.0;
/// Where the course is cut: what is more uneven than this would hide all others.
const MOST_UNEVEN: f64 = 3.0;

/// Distinct for those who see colours differently, too (after Paul Tol's), in the order of the policies.
const COLOURS: [&str; 11] = [
    "#0055cc", "#ee7733", "#009988", "#cc3311", "#882255", "#999933", "#33bbee", "#777777",
    "#ddaa33", "#aa4499", "#000000",
];

/// A panel's span on the page.
#[derive(Clone, Copy)]
struct Panel {
    from: f64,
    to: f64,
}

impl Panel {
    fn at(self, share: f64) -> f64 {
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

/// The picture of a comparison.
pub(crate) fn svg(comparison: &Comparison) -> String {
    let rows = comparison.policies.len() as f64;
    let bottom = TOP + rows * ROW;
    let course_top = bottom + 74.0;
    let height = course_top + COURSE_HEIGHT + 44.0;
    let mut page = Page::new(height);
    page.text(LEFT, 20.0, "start", "title", &comparison.title);
    page.text(LEFT, 38.0, "start", "head", &comparison.detail);
    waiting(&mut page, comparison, bottom);
    caching(&mut page, comparison, bottom);
    course(&mut page, comparison, course_top);
    for (row, figures) in comparison.policies.iter().enumerate() {
        let y = middle(row) + 4.0;
        page.coloured(LEFT - 10.0, y, colour(row), &figures.policy);
    }
    page.end()
}

fn middle(row: usize) -> f64 {
    TOP + (row as f64 + 0.5) * ROW
}

fn colour(row: usize) -> &'static str {
    COLOURS[row % COLOURS.len()]
}

/// A line from the median to p99 on a logarithmic scale, a tick at p90, a dot at the mean.
fn waiting(page: &mut Page, comparison: &Comparison, bottom: f64) {
    page.text(
        WAITING.from,
        TOP - 22.0,
        "start",
        "head",
        "time to first token, s: p50 to p99, tick p90, dot mean",
    );
    let values = || comparison.policies.iter().map(|one| &one.ttft_ms);
    let least = values().map(|ttft| ttft.p50).fold(comparison.bound_ttft_ms, f64::min).max(1.0);
    let most = values().map(|ttft| ttft.p99).fold(least, f64::max);
    let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let at = |ms: f64| WAITING.at((ms.max(1e-3).log10() - low) / (high - low));
    for decade in low as i32..=high as i32 {
        let ms = 10f64.powi(decade);
        page.grid(at(ms), TOP, bottom);
        page.text(at(ms), bottom + 16.0, "middle", "tick", &format!("{}", ms / 1000.0));
    }
    page.bound(at(comparison.bound_ttft_ms), TOP - 6.0, bottom, "prefill alone");
    for (row, Figures { ttft_ms: ttft, .. }) in comparison.policies.iter().enumerate() {
        let (y, colour) = (middle(row), colour(row));
        page.line((at(ttft.p50), y), (at(ttft.p99), y), colour, 3.0);
        page.line((at(ttft.p90), y - 5.0), (at(ttft.p90), y + 5.0), colour, 2.0);
        page.dot(at(ttft.mean), y, colour);
    }
}

fn caching(page: &mut Page, comparison: &Comparison, bottom: f64) {
    page.text(CACHING.from, TOP - 22.0, "start", "head", "prompt tokens from the cache, %");
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        page.grid(CACHING.at(percent / 100.0), TOP, bottom);
        let x = CACHING.at(percent / 100.0);
        page.text(x, bottom + 16.0, "middle", "tick", &format!("{percent}"));
    }
    for (row, one) in comparison.policies.iter().enumerate() {
        let end = CACHING.at(one.cached_tokens_pct / 100.0);
        page.bar((CACHING.from, middle(row) - 6.0), (end - CACHING.from, 12.0), colour(row));
    }
    page.bound(CACHING.at(comparison.bound_cached_pct / 100.0), TOP - 6.0, bottom, "pooled cache");
}

/// How uneven the work was, over the time of the arrivals.
fn course(page: &mut Page, comparison: &Comparison, top: f64) {
    let bottom = top + COURSE_HEIGHT;
    let head =
        "work of the busiest worker by the mean, over the last fifteenth of the run (cut at 3)";
    page.text(COURSE.from, top - 14.0, "start", "head", head);
    let points = || comparison.policies.iter().flat_map(|one| &one.imbalance);
    let end = points().map(|point| point.0).fold(1.0, f64::max);
    let most = points().map(|point| point.1).fold(1.2, f64::max);
    let high = (most * 5.0).ceil().min(MOST_UNEVEN * 5.0) / 5.0;
    let x = |seconds: f64| COURSE.at(seconds / end);
    let y = |value: f64| bottom - (value.min(high) - 1.0) / (high - 1.0) * COURSE_HEIGHT;
    for step in 0..=4 {
        let value = 1.0 + (high - 1.0) * f64::from(step) / 4.0;
        page.line((COURSE.from, y(value)), (COURSE.to, y(value)), "#dddddd", 1.0);
        page.text(COURSE.from - 8.0, y(value) + 4.0, "end", "tick", &format!("{value:.2}"));
        let seconds = end * f64::from(step) / 4.0;
        page.text(x(seconds), bottom + 18.0, "middle", "tick", &format!("{seconds:.0} s"));
    }
    // The first is ours: on top.
    for (row, one) in comparison.policies.iter().enumerate().rev() {
        let points: Vec<_> = one.imbalance.iter().map(|(at, value)| (x(*at), y(*value))).collect();
        page.path(&points, colour(row), if row == 0 { 2.5 } else { 1.3 });
    }
}

struct Page(String);

impl Page {
    fn new(height: f64) -> Self {
        let mut page = String::new();
        let _ = write!(
            page,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\">\n\
             <style>.title{{font-size:15px;font-weight:bold}} .head{{font-size:12px;fill:#333}} \
             .tick{{font-size:11px;fill:#666}} .name{{font-size:13px}}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        Self(page)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    fn coloured(&mut self, x: f64, y: f64, colour: &str, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" class=\"name\" fill=\"{colour}\">{text}</text>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.path(&[from, to], colour, width);
    }

    fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.join(" ")
        );
    }

    fn grid(&mut self, x: f64, top: f64, bottom: f64) {
        self.line((x, top), (x, bottom), "#dddddd", 1.0);
    }

    /// What can not be beaten.
    fn bound(&mut self, x: f64, top: f64, bottom: f64, what: &str) {
        let _ = writeln!(
            self.0,
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#444\" stroke-dasharray=\"4 3\"/>"
        );
        self.text(x, top - 2.0, "middle", "tick", what);
    }

    fn dot(&mut self, x: f64, y: f64, colour: &str) {
        let _ = writeln!(
            self.0,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"white\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"
        );
    }

    fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Costs;
    use crate::load::shared_prefix;
    use crate::oracle;

    #[test]
    fn a_plot_of_nothing_and_of_one_policy_has_only_finite_numbers() {
        let load = shared_prefix(50);
        let bound = oracle::bound(&load, Costs::default(), 2);
        let mut comparison = Comparison::new(&load, 70.0, 2, &bound);
        let empty = svg(&comparison);
        let outcome = crate::world::Outcome::default();
        comparison.policies.push(Figures::of(&load, 70.0, "ttft", &outcome, &bound));
        for picture in [empty, svg(&comparison)] {
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            assert!(picture.ends_with("</svg>\n"));
        }
    }
}
