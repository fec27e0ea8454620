defmodule Image.ZeroShot.Call.VocabularyCache do
  @moduledoc false

  # Compiled vocabularies in memory. One caller embeds a missing one, in its own process, and other callers
  # wait for it. If it fails or dies, the next one embeds it.

  use GenServer

  alias Image.ZeroShot.{Classifier, Error}
  alias Image.ZeroShot.Call.Deadline

  # Classifiers in memory: 4 MB each with ViT-B/32.
  @kept 4

  # The longest wait that Erlang knows, and how long an idle process may take to answer.
  @longest_ms 0xFFFF_FFFF
  @answer_ms 5_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Returns what is kept under a key, or what `make` returns. `timeout` is for both: `make` gets the deadline, so
  that waiting for another caller comes off its time.
  """
  @spec fetch(term(), timeout(), (Deadline.t() -> made)) :: made
        when made: {:ok, Classifier.t()} | {:error, Error.t()}
  def fetch(key, timeout, make) do
    deadline = Deadline.new(timeout)

    case call({:recall, key}, @answer_ms) do
      {:kept, classifier} -> {:ok, classifier}
      _none_or_no_answer -> claim(key, deadline, make)
    end
  end

  defp claim(key, deadline, make) do
    case call({:claim, key}, deadline |> Deadline.remaining() |> wait()) do
      {:kept, classifier} ->
        {:ok, classifier}

      :again ->
        claim(key, deadline, make)

      :timeout ->
        # It may have become this one's turn meanwhile.
        release(key)

        Error.error(
          :timeout,
          "the vocabulary is not embedded yet, and the time limit of the call was reached; " <>
            "raise :timeout"
        )

      _turn_or_no_process ->
        make(key, deadline, make)
    end
  end

  defp wait(:infinity), do: :infinity
  defp wait(remaining), do: min(remaining, @longest_ms)

  defp make(key, deadline, make) do
    with {:ok, classifier} <- make.(deadline) do
      GenServer.cast(__MODULE__, {:keep, key, classifier})
      {:ok, classifier}
    end
  after
    release(key)
  end

  defp release(key), do: GenServer.cast(__MODULE__, {:release, key, self()})

  defp call(request, timeout) do
    GenServer.call(__MODULE__, request, timeout)
  catch
    :exit, {:timeout, _call} -> :timeout
    # Killed, and not back yet.
    :exit, _reason -> :down
  end

  @impl true
  # `making` are the callers whose turn it is, by key, each with its monitor and those who wait.
  def init(nil), do: {:ok, %{kept: [], making: %{}}}

  @impl true
  def handle_call({:recall, key}, _from, state), do: {:reply, kept(state, key), state}

  def handle_call({:claim, key}, {pid, _tag} = from, state) do
    case {kept(state, key), state.making[key]} do
      {nil, nil} ->
        turn = %{pid: pid, monitor: Process.monitor(pid), waiting: []}
        {:reply, :make, put_in(state.making[key], turn)}

      {nil, turn} ->
        {:noreply, put_in(state.making[key], %{turn | waiting: [from | turn.waiting]})}

      {kept, _turn} ->
        {:reply, kept, state}
    end
  end

  @impl true
  def handle_cast({:keep, key, classifier}, state) do
    kept = Enum.take([{key, classifier} | List.keydelete(state.kept, key, 0)], @kept)
    {:noreply, %{state | kept: kept}}
  end

  def handle_cast({:release, key, pid}, state) do
    case state.making[key] do
      %{pid: ^pid} -> {:noreply, ended(key, state)}
      _of_another -> {:noreply, state}
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    {key, _turn} = Enum.find(state.making, fn {_key, turn} -> turn.monitor == monitor end)
    {:noreply, ended(key, state)}
  end

  defp ended(key, state) do
    {turn, making} = Map.pop!(state.making, key)
    Process.demonitor(turn.monitor, [:flush])
    answer = kept(state, key) || :again
    for from <- Enum.reverse(turn.waiting), do: GenServer.reply(from, answer)
    %{state | making: making}
  end

  defp kept(state, key) do
    with {_key, classifier} <- List.keyfind(state.kept, key, 0), do: {:kept, classifier}
  end
end
