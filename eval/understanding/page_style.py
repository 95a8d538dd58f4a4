"""The style of `report.html`."""

STYLE = """
:root { color-scheme: light; --line: #d8dce2; --dim: #5b6470; --ours: #eef5ff; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #16191d; margin: 0 auto; padding: 1rem;
       max-width: 64rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: 1rem;
     border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; } h4 { font-size: .9rem; margin: 0 0 .3rem; }
p, ul { margin: .4rem 0; } li { margin: .15rem 0; }
.measured { background: #fff4d6; border-left: 4px solid #e0a100; padding: .6rem .8rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th[scope=rowgroup] { white-space: normal;
         min-width: 8rem; font-weight: 500; border-right: 1px solid var(--line); }
tr.ours td { background: var(--ours); } small { color: var(--dim); font-size: .72rem; }
td.better { color: #17692f; } td.worse { color: #a3161d; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
.pairs > div { min-width: 0; }
.case, .failure { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; min-width: 0;
                  font-size: .85rem; }
.failure { margin: .6rem 0; } .chart { max-width: 28rem; }
svg { width: 100%; height: auto; display: block; overflow: hidden; }
rect { fill: none; vector-effect: non-scaling-stroke; stroke-width: 2.5; }
rect.true { stroke: #fff; } rect.said { stroke-dasharray: 7 4; }
rect.moderate { stroke: #ffa500; } rect.severe { stroke: #ff2020; } rect.none { fill: #8b929b; }
.bar { fill: #3b74c4; } .bar.low { fill: #b9c2cd; }
.axis { font: 12px system-ui, sans-serif; fill: #5b6470; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f5f7; padding: .5rem;
      font-size: .75rem; margin: .3rem 0 0; max-height: 14rem; overflow: auto; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
td.source, .cards th:nth-child(2) { text-align: left; }
.across-5 th, .across-5 td { padding: .25rem .3rem; } .across-5 th { white-space: normal; }
@media screen and (max-width: 40rem) {
  body { padding: .7rem; } th, td { padding: .2rem .35rem; } ul { padding-left: 1.2rem; }
  .cards thead { display: none; } .cards, .cards tbody { display: block; }
  .cards tr { display: grid; } .across-3 tr { grid-template-columns: repeat(3, 1fr); }
  .across-4 tr { grid-template-columns: repeat(4, 1fr); }
  .across-5 tr { grid-template-columns: repeat(5, 1fr); }
  .pairs th, .pairs td { padding: .2rem .3rem; font-size: .8rem; }
  .cards th, .cards td.source, .cards td.note { grid-column: 1 / -1; text-align: left; }
  .cards th[scope=rowgroup] { font-weight: 600; border: 0; margin-top: .8rem; }
  .cards td.source { border: 0; }
  .cards td.source[data-name]::before { content: attr(data-name) " "; color: var(--dim); }
  .cards td { text-align: left; } .cards td:empty { display: none; }
  .cards td[data-label]::before { content: attr(data-label); display: block; color: var(--dim);
                                  font-size: .7rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } table { font-size: 7.5pt; }
  th, td { padding: .12rem .3rem; } .wide { overflow: visible; } pre { max-height: none; }
  .case, .failure, figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .grid { grid-template-columns: repeat(3, 1fr); } .pairs { grid-template-columns: 1fr 1fr; }
}
"""
