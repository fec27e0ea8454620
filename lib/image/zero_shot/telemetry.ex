defmodule Image.ZeroShot.Telemetry do
  @moduledoc """
  The events that this library emits, for applications that have `:telemetry`.

  Every name begins with `:image_zero_shot`. Durations are in the native unit of time, to be
  converted with `System.convert_time_unit/3`. Handlers of `:queue` and `:batch` run in the
  serving, those of other events in the process that is named; they have to be quick.

  | event | measurements | metadata | runs in |
  | --- | --- | --- | --- |
  | `[:load, :start]` | `:system_time` | `:repo` | the process that loads |
  | `[:load, :stop]` | `:duration` | `:repo`, `:result` | the process that loads |
  | `[:preprocess, :start]` | `:system_time` | `:bytes` | the caller |
  | `[:preprocess, :stop]` | `:duration` | `:bytes`, `:result` | the caller |
  | `[:queue]` | `:duration` that one request waited | `:model`, `:serving` | the serving |
  | `[:batch]` | `:duration`, and how many `:requests`, `:pictures`, `:prompts` | `:model`, `:serving`, `:result` | the serving |
  | `[:overload]` | `:count`, 1 | `:max_queue` | the caller, or its attendant on the other node |
  | `[:error]` | `:count`, 1 | `:reason` of the `Image.ZeroShot.Error`, `:serving` | the caller |

  `:overload` is emitted for each refusal with the reason `:overloaded`, `:max_queue` being the bound
  on callers of that serving. `:result` is `:ok` or `:error`. `:model` is the model's name, `:serving` the name that the
  application gave to a serving, or `nil`.

      :telemetry.attach(
        "clip-queue",
        [:image_zero_shot, :queue],
        fn _event, %{duration: duration}, %{serving: serving}, _config ->
          milliseconds = System.convert_time_unit(duration, :native, :millisecond)
          Logger.info("\#{inspect(serving)}: a request waited \#{milliseconds} ms")
        end,
        nil
      )

  Where there is no `:telemetry` in the system, an event costs a look into the table of functions.
  """

  # Not a dependency: whoever wants the events has it.
  @compile {:no_warn_undefined, :telemetry}

  @doc false
  @spec emit(atom() | [atom()], map(), map()) :: :ok
  def emit(event, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3),
      do: :telemetry.execute([:image_zero_shot | List.wrap(event)], measurements, metadata),
      else: :ok
  end

  @doc false
  @spec span(atom(), map(), (... -> result)) :: result when result: tuple()
  def span(event, metadata, run) do
    started = System.monotonic_time()
    emit([event, :start], %{system_time: System.system_time()}, metadata)
    result = run.()
    duration = System.monotonic_time() - started
    emit([event, :stop], %{duration: duration}, Map.put(metadata, :result, elem(result, 0)))
    result
  end
end
