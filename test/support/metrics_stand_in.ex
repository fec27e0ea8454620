# A stand-in for what `Image.ZeroShot.Telemetry.metrics/0` uses of Telemetry.Metrics, where that is not
# there.

unless Code.ensure_loaded?(Telemetry.Metrics) do
  defmodule Telemetry.Metrics do
    @moduledoc false

    for kind <- [:summary, :counter, :last_value] do
      def unquote(kind)(name, opts \\ []) do
        {event, [measurement]} =
          name |> String.split(".") |> Enum.map(&String.to_atom/1) |> Enum.split(-1)

        unit = Keyword.get(opts, :unit, :unit)
        tags = Keyword.get(opts, :tags, [])
        %{event_name: event, measurement: measurement, unit: unit, tags: tags}
      end
    end
  end
end
