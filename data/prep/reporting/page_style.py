"""The style of `report.html`: written for a phone, and given columns where there is room."""

STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:14px;font:16px/1.5 system-ui,sans-serif;color:#1c1e21;
background:#fcfcfa;overflow-wrap:anywhere}
h1{font-size:1.45rem;margin:.2em 0}
h2{font-size:1.15rem;margin:1.8em 0 .5em;border-top:1px solid #ddd;padding-top:.8em}
h3{font-size:1rem;margin:.8em 0 .3em}p{margin:.5em 0}
nav{display:flex;flex-wrap:wrap;gap:6px;margin:.8em 0}
nav a{border:1px solid #cfcfca;border-radius:14px;padding:2px 11px;text-decoration:none;
color:#1d3557;background:#fff}nav a b{color:#a3161d}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:.6em 0;
font-size:clamp(.72rem,2.9vw,1rem)}
td,th{padding:4px 5px;text-align:right;border-bottom:1px solid #e5e5e0;overflow-wrap:normal}
th{vertical-align:bottom;font-weight:600}
td:first-child,th:first-child{text-align:left}
.shares td:last-child,.shares th:last-child{width:45%;text-align:left}
.shares i{display:block;height:12px;background:#1d3557}
details{border:1px solid #dedcd6;border-radius:6px;background:#fff;margin:8px 0}
summary{cursor:pointer;padding:8px 11px}details[open]>summary{border-bottom:1px solid #eceae4}
.sheet{padding:10px 11px}.sheet>details:first-child{margin-top:0}
.grid{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}
.pairs{display:grid;gap:18px 26px;
grid-template-columns:repeat(auto-fill,minmax(min(420px,100%),1fr))}
.pair>p{margin:0 0 4px}
.pair>div{display:grid;gap:6px;grid-template-columns:1fr 1fr}
.charts{display:grid;gap:6px 26px;grid-template-columns:repeat(auto-fill,minmax(280px,1fr))}
figure{margin:0}img,svg{max-width:100%;height:auto;display:block}img{border-radius:3px;width:100%}
svg text{font:12px system-ui,sans-serif;fill:#33363b}
figcaption,small{font-size:.82rem;color:#555;line-height:1.35}
p.stack{margin:.5em 0 2px}div.stack{display:flex;height:24px}
div.stack span{color:#fff;font-size:.78rem;line-height:24px;padding-left:5px;overflow:hidden;
white-space:nowrap;min-width:2px;padding-right:0}div.stack span:empty{padding:0}
.key span{display:inline-block;width:11px;height:11px;margin:0 4px 0 10px}
.bad{color:#a3161d}.good{color:#22613f;font-weight:600}
code{background:#f0f0ec;padding:0 3px}.opt{white-space:nowrap}
figcaption b{color:#1c1e21}
@media(max-width:480px){body{padding:12px}td,th{padding:4px 3px}}
"""
