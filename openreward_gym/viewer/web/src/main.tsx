import { render } from "preact";
import { App } from "./app";
import "./style.css";
import "./text/text.css";
import "./reading/reading.css";
import "./lists/lists.css";
import "./charts/charts.css";
import "./comparing/comparing.css";
import "./searching/searching.css";
import "./narrow.css";

render(<App />, document.getElementById("app")!);
