// Turns the other scenes of a figure while one is dragged, and spares the browser what this figure has no use for.
const scenes = (plot) => (plot._fullLayout?._subplots?.gl3d ?? []).map((id) => plot._fullLayout[id]._scene);

// The scene that was touched last leads: with every frame that it draws, the others turn to where it looks. Where frames come
// slowly, without a graphics card, they are drawn coarsely until it rests.
function lead(plot, scene) {
  const draw = scene.glplot.onrender;
  let rest, drawnAt = 0;
  scene.container.addEventListener("pointerdown", () => { plot.occlabLeader = scene; }, true);
  scene.glplot.onrender = () => {
    draw();
    if (plot.occlabLeader !== scene) return;
    follow(plot);
    const since = performance.now() - drawnAt;
    drawnAt += since;
    if (scene.camera.mouseListener?.buttons && since > 60 && since < 600) drawAt(plot, 0.5);
    clearTimeout(rest); // Plotly tells of a turn when the mouse is released, but it may turn on for some frames
    rest = setTimeout(() => {
      drawAt(plot, 1);
      if (!scene.glplot || !scene.isCameraChanged(plot.layout)) return;
      scene.saveLayout(plot.layout);
      plot.emit("plotly_relayout", { [`${scene.id}.camera`]: scene.getCamera() });
    }, 200);
  };
}

// Plotly's own share is 2: on a plain screen four times the pixels.
function drawAt(plot, share) {
  for (const { glplot } of scenes(plot)) if (glplot) glplot.pixelRatio = share * (window.devicePixelRatio || 1);
}

function follow(plot) {
  const leader = plot.occlabLeader;
  if (!leader?.glplot) return;
  const view = viewOf(leader);
  for (const scene of scenes(plot)) if (scene !== leader) scene.setViewport(view);
}

function viewOf(scene) {
  return { camera: scene.getCamera(), aspectratio: scene.glplot.getAspectratio() };
}

// Where one trace changes, Plotly computes and draws every scene anew. One whose input is as before is left alone here.
// Arrays are compared by identity: Plotly replaces those that change.
function onlyIfChanged(scene) {
  const numbers = new WeakMap();
  let count = 0, before;
  const numberOf = (array) => numbers.get(array) ?? (numbers.set(array, ++count), count);
  const describe = (input) => JSON.stringify(input, (_, value) => (ArrayBuffer.isView(value) ? numberOf(value) : value));
  const plot = scene.plot;
  scene.plot = function (traces, full, layout) {
    const now = describe([traces.map((trace) => trace._input), layout[scene.id], full._size]);
    if (now === before) {
      scene.fullLayout = full;
    } else {
      before = now;
      // A drawing turns the scene to where it last rested; under a mouse that turns it now, it stays as it is.
      const view = scene.camera?.mouseListener?.buttons ? viewOf(scene) : null;
      plot.call(scene, traces, full, layout);
      if (view) scene.setViewport(view);
    }
  };
}

function lighten(glplot) {
  // Nothing here is picked. Otherwise every frame is drawn twice, the second time to find what lies under the mouse.
  const picked = glplot.objects.filter((object) => object.pickSlots);
  for (const object of picked) object.pickSlots = 0;
  if (picked.length) {
    glplot.remove(picked[0]); // pick buffers are counted where an object comes or goes
    glplot.add(picked[0]);
  }
}

// All of this leans on the inside of Plotly. Where another version has it otherwise, the figure stays as Plotly makes it.
function prepare(plot) {
  try {
    for (const scene of scenes(plot)) {
      if (!scene.glplot) continue; // no WebGL
      if (!scene.occlabReady) {
        scene.occlabReady = true;
        lead(plot, scene);
        onlyIfChanged(scene);
        drawAt(plot, 1);
      }
      lighten(scene.glplot);
    }
  } catch (error) {
    console.warn("the scenes of a figure could not be linked", error);
  }
}

function render({ model }) {
  const attach = (plot) => {
    if (plot?._fullLayout?.meta !== model.get("mark") || plot.occlabLinked) return;
    plot.occlabLinked = true;
    plot.on("plotly_relayout", () => follow(plot));
    plot.on("plotly_afterplot", () => prepare(plot));
    prepare(plot);
  };
  const drawn = (event) => attach(event.detail.element);
  document.addEventListener("plotlywidget-after-render", drawn);
  document.querySelectorAll(".js-plotly-plot").forEach(attach);
  return () => document.removeEventListener("plotlywidget-after-render", drawn);
}

export default { render };
