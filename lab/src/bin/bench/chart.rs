//! The ratios as a bar chart.

use crate::report::{Row, Verdict};

const LINE: f64 = 26.0;
const LEFT: f64 = 330.0;
const WIDTH: f64 = 380.0;

/// An SVG picture: one bar per row, coloured by what it reaches.
pub(crate) fn svg(rows: &[Row]) -> String {
    let most = rows.iter().map(Row::ratio).fold(1.0, f64::max);
    let scale = WIDTH / most;
    let height = LINE * (rows.len() as f64 + 2.5);
    let one = LEFT + scale;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-weight=\"bold\">How many times better than openconnect and ocserv of Debian 12</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = LINE * (index as f64 + 1.2);
        let (ratio, text_y) = (row.ratio(), y + 15.0);
        let width = ratio * scale;
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{text_y}\">{ratio:.1}</text>\n",
            LEFT - 8.0,
            row.what(),
            colour(row.verdict()),
            LEFT + width + 6.0,
        ));
    }
    let bottom = LINE * (rows.len() as f64 + 1.2);
    svg.push_str(&format!(
        "<line x1=\"{one:.1}\" y1=\"{LINE}\" x2=\"{one:.1}\" y2=\"{bottom}\" stroke=\"#555\" stroke-dasharray=\"4 3\"/>\n"
    ));
    let legend = [
        ("aim reached", Verdict::Aim),
        ("floor reached", Verdict::Floor),
        ("neither", Verdict::Missed),
        ("no target", Verdict::Open),
    ];
    for (index, (text, verdict)) in legend.into_iter().enumerate() {
        let x = 20.0 + 190.0 * index as f64;
        svg.push_str(&format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"14\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{text}</text>\n",
            bottom + 10.0,
            colour(verdict),
            x + 20.0,
            bottom + 22.0
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aim => "#2a7f62",
        Verdict::Floor => "#c9a227",
        Verdict::Missed => "#b5482e",
        Verdict::Open => "#7a8b99",
    }
}
