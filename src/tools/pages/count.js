// The page of `count`: the report is its JSON.
tools.count = (reports, box) => {
    for (const {report: r} of reports) {
        const all = r.instructions, of = n => `${share(n, all)} of all`;
        box.append(tiles([['Instructions', count(all)],
            ['Blocks', count(r.blocks), `${(all / (r.blocks || 1)).toFixed(2)} instructions each`],
            ['Loads', count(r.loads), `${(100 * r.loads / (all || 1)).toFixed(1)} in 100 instructions`],
            ['Stores', count(r.stores), `${(100 * r.stores / (all || 1)).toFixed(1)} in 100 instructions`],
            ['Threads', count(r.threads.length)]]));
        const classes = Object.entries(r.classes).filter(c => c[1]).sort((a, b) => b[1] - a[1]);
        box.append(section('Instructions by class',
            bars('Instructions by class', classes.map(([name, n]) => ({name, value: n, text: `${share(n, all)}  ${short(n)}`,
                tip: [make('div', {}, `${count(n)} instructions, ${of(n)}`)]}))),
            note('An instruction may be of several classes: a load that is atomic, a branch that is a return.')));
        const modules = [...new Set(r.functions.map(moduleOf))];
        const fill = f => colour(modules.indexOf(moduleOf(f)));
        box.append(section('Functions', legend(modules.slice(0, 12).map((m, i) => [m || 'elsewhere', colour(i)])),
            bars('Instructions by function', r.functions.slice(0, 25).map(f => ({name: placeOf(f), value: f.instructions,
                text: `${share(f.instructions, all)}  ${short(f.instructions)}`, fill: fill(f),
                tip: [make('div', {className: 'dim'}, moduleOf(f)),
                    make('div', {}, `${count(f.instructions)} instructions, ${of(f.instructions)}`)]}))),
            make('h3', {}, 'All of them'), sortable([
                {title: 'Share', value: f => f.instructions, bar: all, show: f => share(f.instructions, all)},
                {title: 'Instructions', value: f => f.instructions},
                {title: 'Function', value: placeOf, text: true}, {title: 'Module', value: moduleOf, text: true},
                {title: 'Address', value: f => f.address, show: f => hex(f.address)}], r.functions)));
        if (r.threads.length > 1)
            box.append(section('Threads',
                bars('Instructions by thread', [...r.threads].sort((a, b) => a.thread - b.thread).slice(0, 64).map(t => ({
                    name: `thread ${t.thread} (${t.tid})`, value: t.instructions,
                    text: `${share(t.instructions, all)}  ${short(t.instructions)}`}))),
                sortable([{title: 'Thread', value: t => t.thread}, {title: 'Id', value: t => t.tid},
                    {title: 'Instructions', value: t => t.instructions, bar: all}], r.threads)));
    }
};
