//! Draws the table. It uses the terminal's own colours, and every state is also a word.
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Paragraph, Row, Table, TableState, Wrap},
};

use super::{
    feed::{Incident, Target},
    view::{Standing, View},
};

/// Number of incidents on the screen.
const INCIDENTS: usize = 3;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let shown = view.shown();
    let place = view.place(&shown);
    let chosen = place.and_then(|place| shown.get(place)).filter(|_| view.open);
    let below = if chosen.is_some() { 12 } else { 0 };
    let told = u16::try_from(view.incidents.len().min(INCIDENTS)).unwrap_or_default();
    let [head, table, detail, incidents, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(4),
        Constraint::Length(below),
        Constraint::Length(told),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(view), head);
    patients(frame, table, &shown, place);
    if let Some(target) = chosen {
        frame.render_widget(reasons(target), detail);
    }
    let lines: Vec<Line<'_>> = view.incidents.iter().take(INCIDENTS).map(incident).collect();
    frame.render_widget(Paragraph::new(lines), incidents);
    frame.render_widget(footline(view), foot);
}

fn headline(view: &View) -> Line<'_> {
    let mut spans = vec![Span::styled(" Paramedic ", Modifier::BOLD)];
    if let Some(about) = &view.about {
        spans.push(format!("{}  {}  ", about.node, about.version).into());
        if about.dry_run {
            spans.push(Span::styled("dry run  ", Color::Yellow));
        }
    }
    let count = |standing: Standing| view.all().filter(|t| Standing::of(t) == standing).count();
    spans.push(format!("{} watched", view.all().count()).into());
    for standing in [
        Standing::Exhausted,
        Standing::Healing,
        Standing::Verifying,
        Standing::Sick,
        Standing::Unknown,
        Standing::Absent,
    ] {
        let n = count(standing);
        if n > 0 {
            spans.push(Span::styled(format!("  {n} {}", standing.name()), style(standing)));
        }
    }
    Line::from(spans)
}

const fn style(standing: Standing) -> Style {
    let style = Style::new();
    match standing {
        Standing::Exhausted => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        Standing::Healing | Standing::Verifying => style.fg(Color::Blue),
        Standing::Sick => style.fg(Color::Yellow),
        Standing::Unknown | Standing::Absent => style.add_modifier(Modifier::DIM),
        Standing::Well => style.fg(Color::Green),
    }
}

fn patients(frame: &mut Frame<'_>, area: Rect, shown: &[&Target], place: Option<usize>) {
    // A missing value is not zero.
    let or_dash = |value: Option<f64>, text: fn(f64) -> String| value.map_or("-".to_owned(), text);
    let number = |text: String| Cell::from(Line::from(text).right_aligned());
    let head = Row::new(
        ["STATE", "TARGET"]
            .map(Cell::from)
            .into_iter()
            .chain(["REQ/S", "5XX", "CPU", "MEM", "ERRORS"].map(|name| number(name.to_owned())))
            .chain(["VERDICT", "REFUSED BY"].map(Cell::from)),
    )
    .style(Modifier::DIM);
    let rows = shown.iter().map(|target| {
        let standing = Standing::of(target);
        let f = &target.features;
        let seen = |text: String| if target.decision.is_some() { text } else { "-".to_owned() };
        let verdict = target.decision.as_ref().map_or_else(
            || "none yet".to_owned(),
            |decision| format!("{} {:.2}", decision.action, decision.confidence),
        );
        Row::new([
            Cell::from(Span::styled(standing.name(), style(standing))),
            Cell::from(target.name.as_str()),
            number(seen(or_dash(f.http_request_rate, |rate| format!("{rate:.1}")))),
            number(seen(or_dash(f.http_5xx_ratio, |ratio| format!("{:.0}%", ratio * 100.0)))),
            number(seen(format!("{:.0}%", f.cpu_usage))),
            number(seen(format!("{:.0}%", f.memory_usage))),
            number(seen(format!("{:.0}", f.error_count))),
            Cell::from(verdict),
            Cell::from(target.refused_by.as_deref().unwrap_or_default()),
        ])
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Length(20),
        Constraint::Length(17),
    ];
    let table = Table::new(rows, widths)
        .header(head)
        .column_spacing(2)
        .row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::new().with_selected(place);
    frame.render_stateful_widget(table, area, &mut state);
}

fn reasons(target: &Target) -> Paragraph<'_> {
    let mut lines = vec![Line::from(match &target.capped {
        Some(capped) => format!("ceiling: {}; {capped}", target.ceiling),
        None => format!("ceiling: {}", target.ceiling),
    })];
    if let (Some(gate), Some(why)) = (&target.refused_by, &target.refused_why) {
        lines.push(Line::from(format!("refused by {gate}: {why}")));
    }
    if let Some(why) = &target.left_alone {
        lines.push(Line::from(format!("left alone: {why}")));
    }
    for reason in target.reasons.iter().flatten() {
        let bar = "■".repeat((reason.share.clamp(0.0, 1.0) * 20.0).round() as usize);
        let line =
            format!("{:<22}{:>10.3}  {:+.2} {bar}", reason.feature, reason.value, reason.share);
        lines.push(Line::from(line));
    }
    let title = format!(" {}: reasons ", target.name);
    Paragraph::new(lines).wrap(Wrap { trim: false }).block(Block::bordered().title(title))
}

fn incident(incident: &Incident) -> Line<'_> {
    let of_day = incident.wall_time % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let outcome = incident.outcome.as_deref().unwrap_or("under way");
    let (name, remedy) = (&incident.name, &incident.remedy);
    Line::from(format!(" {hour:02}:{minute:02}:{second:02} UTC  {name}  {remedy}: {outcome}"))
}

fn footline(view: &View) -> Line<'_> {
    if let Some(why) = &view.lost {
        return Line::styled(format!(" no answer from the agent: {why}"), Color::Red);
    }
    if view.typing || !view.filter.is_empty() {
        let cursor = if view.typing { "_" } else { "" };
        return Line::from(format!(" filter: {}{cursor}   (esc: all)", view.filter));
    }
    Line::styled(" q quit   ↑↓ select   enter reasons   / filter", Modifier::DIM)
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    use super::*;
    use crate::cli::top::view::{
        Key,
        tests::{target, update},
    };

    /// The screen of a terminal of this size.
    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    fn two() -> View {
        let mut held = target("shop/web", "reset_errors");
        held["refused_by"] = "cooldown".into();
        held["refused_why"] = "it was reset 3 s ago".into();
        let mut view = View::default();
        view.take(update(&[held, target("shop/db", "no_action")]));
        view
    }

    #[test]
    fn a_row_has_state_values_verdict_and_gate() {
        let screen = drawn(&two(), 120, 12);
        let row = screen.lines().find(|line| line.contains("shop/web")).unwrap();
        for part in ["sick", "12.0", "25%", "42%", "61%", "7", "reset_errors 0.93", "cooldown"] {
            assert!(row.contains(part), "{part} is missing in {row}");
        }
        assert!(screen.contains("node1") && screen.contains("2 watched  1 sick"), "{screen}");
    }

    #[test]
    fn unseen_http_is_a_dash_and_not_zero() {
        let mut blind = target("shop/web", "no_action");
        for feature in ["http_request_rate", "http_5xx_ratio"] {
            blind["features"][feature] = serde_json::Value::Null;
        }
        let mut view = View::default();
        view.take(update(&[blind]));
        let screen = drawn(&view, 120, 8);
        let row = screen.lines().find(|line| line.contains("shop/web")).unwrap();
        assert!(row.contains(" - ") && !row.contains("0.0"), "{row}");
    }

    #[test]
    fn enter_shows_the_reasons() {
        let mut view = two();
        assert!(!drawn(&view, 120, 24).contains("error_count"));
        view.press(Key::Enter);
        let screen = drawn(&view, 120, 24);
        assert!(screen.contains("refused by cooldown: it was reset 3 s ago"), "{screen}");
        assert!(screen.contains("error_count") && screen.contains("+0.40 ■■■■■■■■"), "{screen}");
    }

    #[test]
    fn incidents_are_listed_with_their_outcome() {
        let mut view = two();
        let incident =
            json!({ "name": "shop/web", "remedy": "soft", "outcome": "healed", "wall_time": 3661 });
        let event = json!({ "at": 1, "targets": [], "incidents": [incident] });
        view.take(serde_json::from_value(event).unwrap());
        let screen = drawn(&view, 120, 12);
        assert!(screen.contains("01:01:01 UTC  shop/web  soft: healed"), "{screen}");
    }

    #[test]
    fn control_characters_in_a_name_are_removed() {
        let mut view = View::default();
        view.take(update(&[target("a\u{1b}[2J\u{7}b", "no_action")]));
        let screen = drawn(&view, 100, 8);
        assert!(!screen.contains('\u{1b}') && !screen.contains('\u{7}'), "{screen:?}");
    }

    #[test]
    fn drawing_on_a_tiny_terminal_does_not_panic() {
        let mut view = two();
        view.press(Key::Enter);
        for (width, height) in [(1, 1), (10, 3), (40, 5)] {
            drawn(&view, width, height);
        }
    }

    #[test]
    fn a_lost_agent_is_reported_in_the_footer() {
        let mut view = two();
        view.lost("the agent has ended".to_owned());
        assert!(drawn(&view, 100, 8).contains("no answer from the agent: the agent has ended"));
    }
}
