//! The plots of a report, as SVG: rates of each suite side by side, and latency over a load's time.

use std::path::Path;

use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use crate::Result;
use crate::matrix::Line;
use crate::peers::Point;

const HEIGHT: u32 = 460;

/// Width of a row's group of bars.
const GROUP: u32 = 96;

/// One colour for each engine, in the order of the columns.
const COLOURS: [RGBColor; 9] = [
    RGBColor(214, 39, 40),
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(152, 223, 138),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(127, 127, 127),
    RGBColor(23, 190, 207),
];

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Rates of one suite: a group of bars for each row, on a logarithmic scale.
pub(crate) fn rates(path: &Path, title: &str, columns: &[&str], lines: &[&Line<'_>]) -> Result<()> {
    let medians = || lines.iter().flat_map(|line| &line.cells).flatten().map(|cell| cell.median());
    let (low, high) = (medians().fold(f64::MAX, f64::min), medians().fold(0.0, f64::max));
    if lines.is_empty() || low <= 0.0 || !high.is_finite() {
        return Ok(());
    }
    let width = 160 + GROUP * lines.len() as u32;
    let area = SVGBackend::new(path, (width, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let floor = low / 2.0;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0f64..lines.len() as f64, (floor..high * 3.0).log_scale())?;
    let name = |x: &f64| {
        let line = lines.get(x.floor() as usize);
        line.map_or(String::new(), |line| line.row.row.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc("per second")
        .y_label_formatter(&|y| crate::matrix::short(*y))
        .draw()?;
    let bar = 0.86 / columns.len() as f64;
    for (index, engine) in columns.iter().enumerate() {
        let style = colour(index).filled();
        let bars = lines.iter().enumerate().filter_map(|(row, line)| {
            let median = line.cells[index]?.median();
            let left = row as f64 + 0.07 + bar * index as f64;
            Some(Rectangle::new([(left, floor), (left + bar, median)], style))
        });
        chart
            .draw_series(bars)?
            .label(*engine)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 10, y + 4)], style));
    }
    labels(&area, lines.len(), &name)?;
    legend(&mut chart)?;
    Ok(area.present()?)
}

/// The rows' names below their groups, in two heights so that long ones do not meet.
fn labels(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    rows: usize,
    name: &dyn Fn(&f64) -> String,
) -> Result<()> {
    let style = ("sans-serif", 12).into_font();
    for row in 0..rows {
        let x = 82 + (row as u32 * (area.dim_in_pixel().0 - 92) / rows as u32) as i32;
        let y = HEIGHT as i32 - 40 + 14 * (row as i32 % 2);
        area.draw(&Text::new(name(&(row as f64)), (x, y), style.clone()))?;
    }
    Ok(())
}

/// Latency over the time of a load: a line for each engine, on a logarithmic scale.
pub(crate) fn latencies(
    path: &Path,
    title: &str,
    columns: &[&str],
    points: &[Point],
) -> Result<()> {
    let xs = points.iter().map(|point| point.at.0).fold(0.0, f64::max);
    let low = points.iter().map(|point| point.at.1).fold(f64::MAX, f64::min);
    let high = points.iter().map(|point| point.at.1).fold(0.0, f64::max);
    if points.is_empty() || low <= 0.0 {
        return Ok(());
    }
    let area = SVGBackend::new(path, (960, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0f64..xs * 1.15, (low / 2.0..high * 2.0).log_scale())?;
    chart.configure_mesh().x_desc("seconds").y_desc("us a put, worst 64 in 20 ms").draw()?;
    for (index, engine) in columns.iter().enumerate() {
        let curve = points.iter().filter(|point| point.engine == **engine).map(|point| point.at);
        let style = colour(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve, style))?
            .label(*engine)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 10, y)], style));
    }
    legend(&mut chart)?;
    Ok(area.present()?)
}

fn legend<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_for_each_engine() {
        let points: Vec<Point> = ["toykv", "lmdb"]
            .iter()
            .flat_map(|engine| {
                (1..50).map(move |x| Point {
                    engine: engine.to_string(),
                    at: (f64::from(x) / 50.0, f64::from(x)),
                })
            })
            .collect();
        let dir = std::env::temp_dir().join(format!("toykv-plot-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("load.svg");
        latencies(&path, "a load", &["toykv", "lmdb"], &points).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(text.matches("<polyline").count() >= 2);
        assert!(text.contains("toykv") && text.contains("lmdb") && text.contains("a load"));
    }
}
