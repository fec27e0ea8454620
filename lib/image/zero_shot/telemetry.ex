defmodule Image.ZeroShot.Telemetry do
  @moduledoc """
  The events that this library emits, for applications that have `:telemetry`.

  Every name begins with `:image_zero_shot`. Durations and `:monotonic_time` are in the native unit
  of time; convert them with `System.convert_time_unit/3`.

  ## Spans

  `:call`, `:preprocess` and `:load` are spans, in the shape of `:telemetry.span/3`: after `:start` comes either
  `:stop` or `:exception`, with the same `:telemetry_span_context` in the metadata. Bridges such as
  OpenTelemetry pair them by it.

  | event | measurements | metadata | runs in |
  | --- | --- | --- | --- |
  | `[:call, :start]` | `:monotonic_time`, `:system_time` | `:function`, `:repo`, `:serving`, `:telemetry_span_context` | the caller |
  | `[:call, :stop]` | `:duration`, `:monotonic_time` | `:function`, `:repo`, `:serving`, `:result`, `:reason`, `:telemetry_span_context` | the caller |
  | `[:call, :exception]` | `:duration`, `:monotonic_time` | `:function`, `:repo`, `:serving`, `:kind`, `:reason`, `:stacktrace`, `:telemetry_span_context` | the caller |
  | `[:preprocess, :start]` | `:monotonic_time`, `:system_time` | `:bytes`, `:telemetry_span_context` | the caller, or a process of its own for each of several pictures |
  | `[:preprocess, :stop]` | `:duration`, `:monotonic_time` | `:bytes`, `:result`, `:reason`, `:telemetry_span_context` | the caller, or a process of its own for each of several pictures |
  | `[:preprocess, :exception]` | `:duration`, `:monotonic_time` | `:bytes`, `:kind`, `:reason`, `:stacktrace`, `:telemetry_span_context` | the caller, or a process of its own for each of several pictures |
  | `[:load, :start]` | `:monotonic_time`, `:system_time` | `:repo`, `:telemetry_span_context` | the process that loads |
  | `[:load, :stop]` | `:duration`, `:monotonic_time` | `:repo`, `:result`, `:reason`, `:telemetry_span_context` | the process that loads |
  | `[:load, :exception]` | `:duration`, `:monotonic_time` | `:repo`, `:kind`, `:reason`, `:stacktrace`, `:telemetry_span_context` | the process that loads |

  `:call` spans a whole call, from its checked options to its result: `classify/3`, `label/3`, `explain/3`,
  `similarity/3`, `suggest/2`, `embed/2`, `embed_text/2` and `classifier/2` of `Image.ZeroShot`, with and without
  `try_`. `:function` is the name without `try_`, such as `:classify`. `:repo` is the model's option, or `nil` with
  a serving. `:preprocess` lies inside it: for one picture in the same process, for several in a process for each of
  them. The streams `classify_many/3` and
  `embed_many/2` are not calls: their pictures have the other events.

  `:result` is `:ok` or `:error`. An `Image.ZeroShot.Error` is a `:stop` with the `:result` `:error` and the
  error's `:reason`, which is `nil` otherwise, also where the function raises the error. `:exception` means a mistake
  in the program, a bug or an exit; the exception goes on afterwards.

  ## Single events

  | event | measurements | metadata | runs in |
  | --- | --- | --- | --- |
  | `[:queue]` | `:duration` that one request waited | `:model`, `:serving` | the serving |
  | `[:batch]` | `:duration`, and how many `:requests`, `:pictures`, `:prompts` | `:model`, `:serving`, `:result` | the serving |
  | `[:overload]` | `:count`, 1 | `:max_queue` | the caller, or its attendant on the other node |
  | `[:error]` | `:count`, 1 | `:reason` of the `Image.ZeroShot.Error`, `:serving` | the caller |

  `:overload` is emitted for each refusal with the reason `:overloaded`; `:max_queue` is the limit on
  callers of that serving. `:result` is `:ok` or `:error`. `:model` is the model's name, `:serving` the
  name that the application gave to a serving, or `nil`. A batch is not a span, because several of a
  serving can run at the same time in one process.

  > #### Keep handlers quick {: .warning}
  >
  > Handlers run in the process that emits the event. Those of `:queue` and `:batch` hold up the
  > serving, and with it all of its callers.

      :telemetry.attach(
        "clip-queue",
        [:image_zero_shot, :queue],
        fn _event, %{duration: duration}, %{serving: serving}, _config ->
          milliseconds = System.convert_time_unit(duration, :native, :millisecond)
          Logger.info("\#{inspect(serving)}: a request waited \#{milliseconds} ms")
        end,
        nil
      )

  `metrics/0` has the metrics that LiveDashboard and other reporters of `Telemetry.Metrics` can show.

  Without `:telemetry` in the system, an event costs one lookup of an exported function.
  """

  # Not dependencies: applications that want events and metrics have them.
  @compile {:no_warn_undefined, [:telemetry, Telemetry.Metrics]}

  @milliseconds {:native, :millisecond}

  @doc """
  Returns metrics of these events, for LiveDashboard and other reporters of `Telemetry.Metrics`.

  Durations are in milliseconds. Append the list to that of your application:

      # lib/my_app_web/telemetry.ex
      def metrics do
        [summary("phoenix.endpoint.stop.duration", unit: {:native, :millisecond})] ++
          Image.ZeroShot.Telemetry.metrics()
      end

  Raises an `ArgumentError` where the application has no `Telemetry.Metrics`.
  """
  @spec metrics() :: [struct()]
  def metrics do
    unless Code.ensure_loaded?(Telemetry.Metrics) do
      raise ArgumentError,
            "expected telemetry_metrics to be there; " <>
              ~s(add {:telemetry_metrics, "~> 1.0"} to your dependencies)
    end

    [
      Telemetry.Metrics.summary("image_zero_shot.call.stop.duration",
        unit: @milliseconds,
        tags: [:function, :result]
      ),
      Telemetry.Metrics.summary("image_zero_shot.batch.duration",
        unit: @milliseconds,
        tags: [:result]
      ),
      Telemetry.Metrics.summary("image_zero_shot.batch.pictures"),
      Telemetry.Metrics.summary("image_zero_shot.queue.duration", unit: @milliseconds),
      Telemetry.Metrics.summary("image_zero_shot.preprocess.stop.duration", unit: @milliseconds),
      Telemetry.Metrics.counter("image_zero_shot.overload.count"),
      Telemetry.Metrics.counter("image_zero_shot.error.count", tags: [:reason]),
      Telemetry.Metrics.last_value("image_zero_shot.load.stop.duration", unit: @milliseconds)
    ]
  end

  @doc false
  @spec emit(atom() | [atom()], map(), map()) :: :ok
  def emit(event, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3),
      do: :telemetry.execute([:image_zero_shot | List.wrap(event)], measurements, metadata),
      else: :ok
  end

  # As `:telemetry.span/3`, which cannot be called where it may be absent.
  @doc false
  @spec span(atom(), map(), (... -> result)) :: result when result: tuple()
  def span(event, metadata, run) do
    metadata = Map.put(metadata, :telemetry_span_context, make_ref())
    started = System.monotonic_time()
    times = %{monotonic_time: started, system_time: System.system_time()}
    emit([event, :start], times, metadata)

    try do
      run.()
    catch
      kind, reason ->
        failure = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
        emit([event, :exception], since(started), Map.merge(metadata, failure))
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        emit([event, :stop], since(started), Map.merge(metadata, outcome(result)))
        result
    end
  end

  defp outcome({:error, %Image.ZeroShot.Error{reason: reason}}),
    do: %{result: :error, reason: reason}

  defp outcome(result), do: %{result: elem(result, 0), reason: nil}

  defp since(started) do
    now = System.monotonic_time()
    %{duration: now - started, monotonic_time: now}
  end
end
