// Parts of Observable Plot that the page's charts don't have: map projections (`projection.js`), which would load all of d3-geo,
// and tips that follow the pointer (`tip.js`, `pointer.js`; charts have titles). Names are Plot's, and so are results where
// nothing of the kind is asked for.

const none = (name: string) => (): never => {
  throw new Error(`the page's charts have no ${name}`);
};

export const createProjection = (): undefined => undefined;
export const hasProjection = (): boolean => false;
export const projectionAspectRatio = (): undefined => undefined;
export const xyProjection = (): undefined => undefined;
export const project = none("projection");
export const applyPosition = none("projection");
export const getGeometryChannels = none("projection");

export const Tip: undefined = undefined;
export const tip = none("tips");
export const pointer = none("tips");
export const pointerX = none("tips");
export const pointerY = none("tips");
export const anchorX = none("tips");
export const anchorY = none("tips");
