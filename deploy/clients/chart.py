"""A picture of a load as SVG: the latency of each request over time, and its percentiles as lines."""

from collections.abc import Iterator
from html import escape

from deploy.clients.load import Result

WIDTH, HEIGHT = 800, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 90, 40, 40
POINTS = 5000
GOOD, BAD, LINE, TEXT = "#0f62fe", "#da1e28", "#8d8d8d", "#161616"


def latency_chart(result: Result, title: str) -> str:
    """The SVG. Points are answers of status 200, red crosses all others; at most POINTS of the good ones are drawn.

    Args:
        result: with at least one request.
    """
    top = 1.1 * max(s.ms for s in result.samples) or 1.0
    span = max(result.seconds, 0.1)

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(seconds / span, 1), 1)

    def y(ms: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ms / top, 1)

    good = [s for s in result.samples if s.outcome == 200]
    shown = good[:: max(len(good) // POINTS, 1)]
    parts = [
        *_frame(title, span, top),
        *(f'<circle cx="{x(s.due)}" cy="{y(s.ms)}" r="2" fill="{GOOD}" fill-opacity="0.5"/>' for s in shown),
        *(_cross(x(s.due), y(s.ms)) for s in result.samples if s.outcome != 200),
    ]
    for share in (50, 90, 99):
        height = y(value := result.percentile(share / 100))
        parts.append(f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="{LINE}" stroke-dasharray="4 3"/>')
        parts.append(_text(WIDTH - RIGHT + 4, height + 4, f"p{share} {value:.0f} ms"))
    return "\n".join([*parts, "</svg>", ""])


def _frame(title: str, span: float, top: float) -> Iterator[str]:
    font = 'font-family="sans-serif" font-size="12"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font}>'
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield _text(LEFT, 22, title)
    yield f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="{TEXT}"/>'
    yield _text(8, TOP + 4, f"{top:.0f} ms")
    yield _text(8, HEIGHT - BOTTOM + 4, "0 ms")
    yield _text(LEFT, HEIGHT - BOTTOM + 20, "0 s")
    yield _text(WIDTH - RIGHT - 30, HEIGHT - BOTTOM + 20, f"{span:.0f} s")


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{TEXT}">{escape(text)}</text>'


def _cross(x: float, y: float) -> str:
    return f'<path d="M{x - 3} {y - 3}l6 6m0 -6l-6 6" stroke="{BAD}" stroke-width="1.5"/>'
